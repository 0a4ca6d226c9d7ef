"""A verifier measured per source, whatever kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from router.models.errors import Unscorable, VerifierError
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, Problem, Sampling, Scored
from router.rollouts.runs import StoredCandidate
from router.verifier.data import SolutionPool
from router.verifier.evaluation import measure
from router.verifier.report import render
from router.verifier.scoring import score_with
from router.verifier.sources import measure_sources, source_of, verdict


def pool(
    id_: str, rows: Sequence[tuple[str, float | None]], source: str | None = None
) -> SolutionPool:
    """One problem, right answer 1; each row an answer and its score, None being unscorable."""
    found = [
        StoredCandidate(("x",), "stop", answer, answer == "1", scores=() if s is None else (s,))
        for answer, s in rows
    ]
    return SolutionPool(Problem(id_, f"problem {id_}", "1", source=source), tuple(found))


KNOWING = [("1", 0.9), ("2", 0.2), ("2", 0.2)]
MISLED = [("1", 0.1), ("1", 0.1), ("2", 0.9)]
BLIND = [("1", 0.5), ("2", 0.5), ("3", 0.5)]


def test_each_source_has_its_own_verdict() -> None:
    pools = [
        pool(f"{name}/{index}", rows)
        for name, rows in (("knows", KNOWING), ("misled", MISLED), ("blind", BLIND))
        for index in range(8)
    ]
    found = {source.name: source for source in measure_sources(pools, "last")}
    assert "a weighted vote beats a plain one: 100.0% against 0.0%" in found["knows"].verdict
    assert "loses to a plain one" in found["misled"].verdict
    assert "is not told apart from" in found["blind"].verdict
    assert found["knows"].report is not None
    assert found["knows"].report.brier.value == pytest.approx((0.1**2 + 2 * 0.2**2) / 3)
    page = render(measure(pools), "judge", "Format fake.", list(found.values()))
    assert all(source.verdict in page for source in found.values())


def test_a_source_with_nothing_to_tell_apart_is_named_and_not_measured() -> None:
    pools = [pool(f"a/{i}", KNOWING) for i in range(4)] + [pool("b/0", [("1", 0.5), ("1", 0.5)])]
    [_, other] = measure_sources(pools, "last")
    assert (other.name, other.problems, other.report) == ("b", 1, None)
    assert "0 of 1 problems" in other.verdict


@pytest.mark.parametrize(
    ("id_", "source", "named"),
    [("gsm8k/train/3", None, "gsm8k"), ("gsm8k/3", "mine", "mine"), ("7", None, "7")],
)
def test_a_source_is_what_the_problem_says_else_how_its_id_starts(
    id_: str, source: str | None, named: str
) -> None:
    assert source_of(Problem(id_, "?", source=source)) == named


def test_what_cannot_be_scored_does_not_vote_and_hides_nothing_else() -> None:
    rows = [("1", 0.9), ("2", 0.1), ("2", None), ("2", None)]
    report = measure([pool(str(index), rows) for index in range(4)])
    assert report.within["last"].value == 1.0
    assert report.curve("weighted", "last").accuracy[-1].value == 1.0
    assert report.curve("majority").accuracy[-1].value == 0.0
    assert "beats" in verdict(report, "last")


class Limited(FakeVerifier):
    """Takes no chain of more than two steps, and ends after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        if not self.left:
            raise VerifierError("down")
        self.left -= 1
        if len(chain.steps) > 2:
            raise Unscorable("too long")
        return await super().score(chain, known)


async def test_any_verifier_scores_a_pool_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pools = []
    for problem in fake_problems(4):
        sampled = await FakeGenerator().sample(Chain(problem), 5, Sampling())
        chains = [Chain(problem).extend(*c.steps) for c in sampled.continuations]
        pools.append(
            SolutionPool(problem, tuple(StoredCandidate.of(c, "1", False, None) for c in chains))
        )
    cache, seen = tmp_path / "out" / "scores.jsonl", []
    with pytest.raises(VerifierError):
        await score_with(Limited(7), pools, cache, lambda *_: None)
    cache.write_text(cache.read_text() + '{"solution": "torn')
    again = Limited(100)
    found = await score_with(again, pools, cache, lambda *row: seen.append(row))
    assert 100 - again.left <= 20 - 5
    assert seen[-1] == ("scoring solutions", 20, 20)
    for before, after in zip(pools, found, strict=True):
        for old, new in zip(before.candidates, after.candidates, strict=True):
            assert new.scores is not None
            assert len(new.scores) == (0 if len(old.steps) > 2 else len(old.steps))
            assert replace(new, scores=None) == old
