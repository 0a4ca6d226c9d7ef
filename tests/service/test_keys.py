"""API keys: how they are read, compared and kept out of sight."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from router.models.errors import InputError
from router.service.keys import ApiKeys, Client

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"


def test_keys_with_and_without_a_cap(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# who\n{ALICE}\n\n  {BOB} 64  # a guest\n")
    keys = ApiKeys.read(file)
    alice, bob = keys.client(ALICE), keys.client(BOB)
    assert alice is not None
    assert alice.max_budget is None
    assert bob is not None
    assert bob.max_budget == 64
    assert alice.key != bob.key
    assert keys.client("carol-0123456789abcdef") is None
    assert keys.client("") is None
    assert keys.client("\udcff") is None
    assert ApiKeys.parse(f"{ALICE},{BOB} 64", "env") == keys


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key"),
        ("# only\n,,", "no key"),
        ("short", "fewer than 16"),
        ("ключ-0123456789abcdef", "key 1 is not ASCII"),
        (f"{ALICE} many", "KEY MAX_BUDGET"),
        (f"{ALICE} 0", "KEY MAX_BUDGET"),
        (f"{ALICE} 5 5", "KEY MAX_BUDGET"),
    ],
)
def test_bad_keys_are_refused_without_quoting_them(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ApiKeys.parse(text, "here")
    assert ALICE not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read keys"):
        ApiKeys.read(tmp_path / "none")


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(len(left))
        return real(left, right)

    keys = ApiKeys.parse(f"{ALICE}\n{BOB}", "here")
    monkeypatch.setattr(hmac, "compare_digest", counting)
    for presented in (ALICE, BOB, "none", "x" * 10_000):
        compared.clear()
        keys.client(presented)
        assert compared == [32, 32]


def test_keys_are_not_shown() -> None:
    keys = ApiKeys.parse(ALICE, "here")
    assert ALICE not in repr(keys)
    assert keys
    assert not ApiKeys()
    assert Client().key is None
