"""`docs/extending.md` runs as it stands, and names only files that there are."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from router.bundle import Bundle, shipped_bundle
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.weights.embedded import DEFAULT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text()
STRATEGY, SUITES, ESTIMATOR = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)

# As modules of somebody else's, which can be imported, as pickling asks for.
own = sys.modules["own_strategy"] = ModuleType("own_strategy")
exec(STRATEGY, vars(own))
vars(own).update(MyEngine=FakeGenerator, MyVerifier=FakeVerifier)
exec(SUITES, vars(own))
TestBestStart = own.TestBestStart
TestMyEngine = own.TestMyEngine
TestMyVerifier = own.TestMyVerifier


def test_the_strategy_is_short_and_solves(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(STRATEGY.splitlines()) <= 30
    exec(STRATEGY, {**vars(own), "__name__": "__main__"})
    assert capsys.readouterr().out == "80 8\n"


def test_the_estimator_decides() -> None:
    directory = shipped_bundle(DEFAULT.name)
    assert directory is not None
    names: dict[str, object] = {}
    exec(ESTIMATOR, names)
    by_length = names["by_length"]
    assert callable(by_length)
    decision = by_length(Bundle.load(directory)).decide("What is 1 + 1?", 4)
    assert decision.levels == pytest.approx((0.4, 0.3, 0.2, 0.1))
    assert decision.why.endswith("difficulty judged by its length")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+/[\w/.]*)`", TEXT))))
def test_the_files_are_there(path: str) -> None:
    assert (ROOT / path.replace("mine.py", "")).exists()
