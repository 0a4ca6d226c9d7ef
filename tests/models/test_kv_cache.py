"""Key/value caches: the longest prefix, bounded memory, rows of different lengths."""

import torch

from router.models.runtime.kv_cache import BatchCache, Layers, PrefixCache, positions


def row(length: int, start: float = 0.0) -> Layers:
    """Two layers of one row whose entries name their position."""
    values = torch.arange(length, dtype=torch.float32) + start
    tensor = values[None, None, :, None].expand(1, 2, length, 4)
    return [tensor, tensor + 0.5, tensor + 100, tensor + 100.5]


def names(layers: Layers) -> list[list[float]]:
    """Position names of each row in the first layer's keys."""
    return layers[0][:, 0, :, 0].tolist()


def test_the_longest_common_prefix_of_any_entry_is_found():
    cache = PrefixCache(1 << 20)
    assert cache.longest([1, 2]) == (0, None)
    cache.add([1, 2, 3, 4], row(4))
    cache.add([1, 2, 9], row(3, start=50))
    length, layers = cache.longest([1, 2, 3, 7, 8])
    assert length == 3
    assert layers is not None
    assert names(layers) == [[0, 1, 2]]
    assert cache.longest([1, 2, 9, 9])[0] == 3
    assert cache.longest([5])[0] == 0


def test_entries_are_copies():
    cache = PrefixCache(1 << 20)
    layers = [tensor.clone() for tensor in row(3)]
    cache.add([1, 2, 3], layers)
    layers[0].zero_()
    found = cache.longest([1, 2, 3])[1]
    assert found is not None
    assert names(found) == [[0, 1, 2]]


def test_least_recently_used_entries_leave_first():
    size = sum(tensor.nbytes for tensor in row(4))
    cache = PrefixCache(2 * size)
    for first in (1, 2):
        cache.add([first] * 4, row(4))
    cache.longest([1, 1])
    cache.add([3] * 4, row(4))
    assert [cache.longest([first] * 4)[0] for first in (1, 2, 3)] == [4, 0, 4]


def test_a_longer_entry_replaces_its_own_prefix():
    size = sum(tensor.nbytes for tensor in row(6))
    cache = PrefixCache(2 * size)
    cache.add([1] * 4, row(4))
    cache.add([1] * 6, row(6))
    cache.add([2] * 6, row(6))
    assert cache.longest([1] * 6)[0] == 6
    assert cache.longest([2] * 6)[0] == 6


def test_rows_of_different_lengths_grow_together_and_lose_padding():
    batch = BatchCache()
    batch.append(row(2), copies=1)
    batch.append(row(4, start=10), copies=2)
    mask, position_ids = batch.inputs()
    assert mask.tolist() == [[0, 0, 1, 1, 1], [1] * 5, [1] * 5]
    assert position_ids.tolist() == [[2], [4], [4]]
    for index, layer in enumerate(batch.cache.layers):
        new = torch.full((3, 2, 1, 4), 77.0 + index)
        layer.update(new, new)
    batch.grew()
    assert names(batch.row(0)) == [[0, 1, 77]]
    assert names(batch.row(2)) == [[10, 11, 12, 13, 77]]
    batch.keep([0])
    assert batch.width == 3
    assert names(batch.row(0)) == [[0, 1, 77]]
    batch.keep([])
    assert batch.width == 0


def test_growing_beyond_the_room_keeps_what_was_there():
    batch = BatchCache()
    batch.append(row(3), copies=2)
    for step in range(200):
        for layer in batch.cache.layers:
            layer.update(torch.full((2, 2, 1, 4), float(step)), torch.zeros(2, 2, 1, 4))
        batch.grew()
    assert names(positions(batch.row(1), 0, 6)) == [[0, 1, 2, 0, 1, 2]]
    assert names(positions(batch.row(1), 201, 203)) == [[198, 199]]
