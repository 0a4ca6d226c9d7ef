"""The micro-batcher: order, sharing, isolation of failures, cancellation."""

import asyncio
import threading

import pytest

from router.models.runtime.batching import MicroBatcher


class Recorder:
    """Doubles numbers, keeps the batches it saw, fails on negative ones, may be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Event()
        self.release = threading.Event()
        self.release.set()

    def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.started.set()
        assert self.release.wait(10)
        if min(batch) < 0:
            raise ValueError(f"negative: {min(batch)}")
        return [2 * item for item in batch]

    def hold(self) -> None:
        self.started.clear()
        self.release.clear()

    async def wait_started(self) -> None:
        assert await asyncio.to_thread(self.started.wait, 10)


async def test_tasks_ready_together_share_batches_and_keep_order():
    recorder = Recorder()
    batcher = MicroBatcher(recorder, max_batch=4)
    results = await asyncio.gather(*(batcher.submit(i) for i in range(10)))
    assert results == [2 * i for i in range(10)]
    assert recorder.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    await batcher.aclose()


async def test_what_arrives_during_a_run_forms_the_next_batch():
    recorder = Recorder()
    batcher = MicroBatcher(recorder, max_batch=8)
    recorder.hold()
    first = asyncio.create_task(batcher.submit(0))
    await recorder.wait_started()
    later = [asyncio.create_task(batcher.submit(i)) for i in (1, 2)]
    await asyncio.sleep(0.01)
    later.append(asyncio.create_task(batcher.submit(3)))
    await asyncio.sleep(0.01)
    recorder.release.set()
    assert [await first, *await asyncio.gather(*later)] == [0, 2, 4, 6]
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_a_bad_item_fails_alone():
    batcher = MicroBatcher(Recorder(), max_batch=4)
    results = await asyncio.gather(*(batcher.submit(i) for i in (1, -5, 3)), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert str(results[1]) == "negative: -5"
    assert results[2] == 6
    assert await batcher.submit(4) == 8


async def test_a_wrong_number_of_results_is_an_error_for_every_item():
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda batch: [0, 0, 0], max_batch=4)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [str(error) for error in results] == ["1 items gave 3 results"] * 2


async def test_cancelled_items_are_never_run():
    recorder = Recorder()
    batcher = MicroBatcher(recorder, max_batch=8)
    recorder.hold()
    running = asyncio.create_task(batcher.submit(0))
    await recorder.wait_started()
    waiting, kept = (asyncio.create_task(batcher.submit(i)) for i in (1, 2))
    await asyncio.sleep(0.01)
    waiting.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await running
    recorder.release.set()
    assert await kept == 4
    assert recorder.batches == [[0], [2]]


def test_serves_one_event_loop_after_another():
    batcher = MicroBatcher(Recorder(), max_batch=4)
    assert [asyncio.run(batcher.submit(i)) for i in range(3)] == [0, 2, 4]
