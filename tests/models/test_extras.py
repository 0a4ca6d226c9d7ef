"""Libraries that an extra brings: what is said where they are missing."""

from __future__ import annotations

import pytest

from router.models.errors import InputError, ModelError, NotInstalled
from router.models.extras import require


def test_what_is_there_is_not_asked_for() -> None:
    require("a test", "dev", "json", "pytest")


def test_what_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(NotInstalled) as raised:
        require("a test", "fit", "json", "no_such_library", "nor_this_one")
    assert str(raised.value) == (
        "a test needs no_such_library and nor_this_one: pip install 'compute-optimal-router[fit]'"
    )
    assert isinstance(raised.value, InputError)
    assert isinstance(raised.value, ModelError)
