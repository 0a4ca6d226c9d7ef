from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router.fitting.measurements import Measurements, measure
from router.fitting.pools import units_of
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.rollouts.runs import Origin, Run, StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.registry import parse_strategy

ORIGIN = Origin.of(
    GeneratorInfo("g", "fake", "plain", parameters=10),
    Sampling(),
    VerifierInfo("v", "fake", "last", parameters=3),
)
PROBLEM = Problem("p", "Half of one?", "1/2")


def _candidate(answer: str | None, score: float | None = 0.5) -> StoredCandidate:
    right = answer in {"1/2", "0.5", "\\frac{1}{2}"}
    scores = None if score is None else (1.0, score)
    return StoredCandidate(("a\n\n", "b"), "stop", answer, right, 10, scores)


def _usage(generations: int, *, tokens: int = 10, prompt: int = 7) -> Usage:
    return Usage(
        generations=generations,
        sampled_tokens=generations * tokens,
        prompt_tokens=prompt + 2,
        prompt_tokens_cached=2,
        verifier_tokens=generations * 4,
    )


def _measured(
    path: Path,
    pool: Sequence[StoredCandidate],
    runs: Sequence[tuple[str, Sequence[StoredCandidate]]],
    texts: Sequence[str],
    level_samples: int = 0,
) -> Measurements:
    with RolloutStore.create(path / "r.db", ORIGIN) as store:
        store.add_problems([PROBLEM])
        store.add_samples("p", pool, _usage(len(pool)))
        for repeat, (configuration, found) in enumerate(runs):
            run = Run("p", configuration, repeat, "completed", _usage(4), tuple(found))
            store.add(run)
        strategies = [parse_strategy(text) for text in texts]
        return measure(store, strategies, level_samples=level_samples)


def test_votes_are_counted_by_the_problems_task(tmp_path: Path) -> None:
    """As maths, `US` and `U.S.` are two answers, and the vote is a tie of three."""
    answers = (("US", True), ("U.S.", True), ("the UK", False))
    pool = [replace(_candidate(answer), correct=right) for answer, right in answers]
    accuracy = {}
    for task in ("maths", "text"):
        with RolloutStore.create(tmp_path / f"{task}.db", ORIGIN) as store:
            store.add_problems([replace(PROBLEM, task=task)])
            store.add_samples("p", pool, _usage(3))
            strategy = parse_strategy("best_of_n(n=3, select=majority)")
            accuracy[task] = measure(store, [strategy], level_samples=0).accuracy[0, 0]
    assert accuracy == {"maths": pytest.approx(2 / 3), "text": 1.0}


def test_units_say_what_must_be_run() -> None:
    units = {
        text: units_of(parse_strategy(text))
        for text in (
            "best_of_n(n=8, select=best)",
            "best_of_n(n=8, select=majority, temperature=0.3)",
            "dvts(n=16, select=best)",
            "lookahead(n=8, k=2)",
            'best_of_n(n=8, temperatures="0.3:3", lead=2)',
        )
    }
    assert [[(u.configuration, u.count) for u in parts] for parts in units.values()] == [
        [("best_of_n", 8)],
        [("best_of_n(n=1, temperature=0.3)", 8)],
        [("dvts(n=4)", 4)],
        [("lookahead(n=8, k=2)", 1)],
        [("best_of_n(n=1, temperature=0.3)", 3), ("best_of_n", 5)],
    ]
    costs = [[u.strategy.cost for u in parts] for parts in units.values()]
    assert costs == [[1], [1], [4], [24], [1, 1]]


def test_equal_answers_vote_together(tmp_path: Path) -> None:
    pool = [_candidate("1/2"), _candidate("0.5"), _candidate("3"), _candidate("4")]
    found = _measured(tmp_path, pool, [], ["best_of_n(n=4, select=majority)"])
    assert found.accuracy[0, 0] == 1.0
    assert found.pass_at_1[0] == 0.5
    assert found.samples[0] == 4


def test_the_first_samples_decide_the_level_and_nothing_else(tmp_path: Path) -> None:
    pool = [_candidate("3")] * 2 + [_candidate("1/2")] * 2
    texts = ["best_of_n(n=1, select=majority)", "best_of_n(n=4, select=majority)"]
    found = _measured(tmp_path, pool, [], texts, level_samples=2)
    assert found.pass_at_1[0] == 0.0
    assert found.accuracy[0, 0] == 1.0
    assert np.isnan(found.accuracy[0, 1])  # two samples are left, not four
    assert found.samples[0] == 4


def test_another_temperature_is_a_pool_of_its_own(tmp_path: Path) -> None:
    colder = "best_of_n(n=1, temperature=0.3)"
    runs = [(colder, [_candidate(answer)]) for answer in ("1/2", "1/2", "3", "4")]
    texts = [
        "best_of_n(n=1, select=majority)",
        colder,
        "best_of_n(n=3, select=majority, temperature=0.3)",
        "best_of_n(n=5, temperature=0.3)",
    ]
    found = _measured(tmp_path, [_candidate("3"), _candidate("4")], runs, texts, level_samples=1)
    # Three of the four: both right ones in half of the subsets, one of three answers in the others.
    np.testing.assert_allclose(found.accuracy[0, :3], [0.0, 0.5, 0.5 + 0.5 / 3])
    assert np.isnan(found.accuracy[0, 3])
    assert found.pass_at_1[0] == 0.0  # its samples tell no level


def test_dvts_is_a_pool_of_subtrees(tmp_path: Path) -> None:
    right, wrong = [_candidate("1/2", 0.9)], [_candidate("3", 0.2), _candidate("4", 0.1)]
    subtrees = [("dvts(n=4)", found) for found in (right, wrong, wrong)]
    texts = ["dvts(n=4)", "dvts(n=8)", "dvts(n=12)", "dvts(n=16)"]
    found = _measured(tmp_path, [_candidate("3")], subtrees, texts)
    # One subtree: 1 of 3. Two: the right one's 0.9 beats 0.2. Three: 0.9 against 0.4.
    np.testing.assert_allclose(found.accuracy[0, :3], [1 / 3, 2 / 3, 1.0])
    assert np.isnan(found.accuracy[0, 3])
    np.testing.assert_allclose(found.tokens[0], [40, 80, 120, 160])


def test_repeats_of_a_search_are_averaged_and_one_without_candidates_is_wrong(
    tmp_path: Path,
) -> None:
    runs = [("beam_search(n=4)", [_candidate("1/2")]), ("beam_search(n=4)", [])]
    found = _measured(tmp_path, [_candidate("3")], runs, ["beam_search(n=4)"])
    assert found.accuracy[0, 0] == 0.5


def test_costs_count_what_each_strategy_computes(tmp_path: Path) -> None:
    pool = [_candidate("1/2")] * 4
    runs = [("dvts(n=4)", pool), ("dvts(n=4)", pool)]
    texts = ["best_of_n(n=2, select=majority)", "best_of_n(n=2)", "dvts(n=8)"]
    found = _measured(tmp_path, pool, runs, texts)
    generator, verifier = 2 * 10, 2 * 3
    one_prompt = 7
    two_samples = 9 / 4 + (7 - 9 / 4) / 3  # of nine tokens for all four, of which two were cached
    assert found.tokens[0].tolist() == [20, 20, 80]
    np.testing.assert_allclose(
        found.flops[0],
        [
            generator * (20 + two_samples),
            generator * (20 + two_samples) + verifier * 2 * 4,
            generator * (80 + 2 * one_prompt) + verifier * 2 * 16,
        ],
    )
    assert found.sample_tokens[0] == 10
    assert found.sample_flops[0] == pytest.approx(generator * (10 + 9 / 4))


@pytest.mark.parametrize(
    ("requests", "further"),
    [
        ([(16, 15 * 64)], 29),  # the end that no block holds
        ([(8, 7 * 64), (8, 7 * 64)], 29),  # the prompt was read twice
        ([(1, 0)] * 16, 93),  # one by one, without a cache
        ([(1, 64)] * 16, 29),  # and with one that knew the prompt
        ([(16, 0)], 93),  # shorter than a block
        ([(16, 16 * 93)], 0),
    ],
)
def test_a_search_reads_its_prompt_once_and_then_what_no_cache_holds(
    tmp_path: Path, requests: list[tuple[int, int]], further: float
) -> None:
    """As vLLM reports it: 93 tokens for each sample, and some of them cached."""
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        store.add_problems([PROBLEM])
        for count, cached in requests:
            usage = replace(
                _usage(count, tokens=20),
                prompt_tokens=count * 93,
                prompt_tokens_cached=cached,
            )
            store.add_samples("p", [_candidate("1/2")] * count, usage)
        texts = [f"best_of_n(n={n}, select=majority)" for n in (1, 2, 4)]
        found = measure(store, list(map(parse_strategy, texts)), level_samples=0)
    computed = [20 * n + 93 + (n - 1) * further for n in (1, 2, 4)]
    np.testing.assert_allclose(found.flops[0], 2 * 10 * np.array(computed))


def test_what_an_engine_did_not_report_stays_unknown(tmp_path: Path) -> None:
    with RolloutStore.create(tmp_path / "r.db", replace(ORIGIN, parameters=None)) as store:
        store.add_problems([PROBLEM])
        usage = Usage(generations=1, sampled_tokens=None, prompt_tokens=None)
        store.add_samples("p", [_candidate("1/2")], usage)
        strategies = [parse_strategy("best_of_n(n=1, select=majority)")]
        found = measure(store, strategies, level_samples=0)
    assert np.isnan(found.tokens[0, 0])
    assert np.isnan(found.flops[0, 0])
    assert found.accuracy[0, 0] == 1.0


@pytest.mark.parametrize(("tokens", "known"), [(0, True), (4, False)])
def test_a_verifier_of_unknown_size_is_free_only_if_it_computed_nothing(
    tmp_path: Path, tokens: int, known: bool
) -> None:
    origin = replace(ORIGIN, verifier_parameters=None)
    with RolloutStore.create(tmp_path / "r.db", origin) as store:
        store.add_problems([PROBLEM])
        store.add_samples("p", [_candidate("1/2")], replace(_usage(1), verifier_tokens=tokens))
        strategies = [parse_strategy("best_of_n(n=1)")]
        found = measure(store, strategies, level_samples=0)
    assert np.isfinite(found.flops[0, 0]) == known


def test_unscored_samples_serve_a_majority_only(tmp_path: Path) -> None:
    pool = [_candidate("1/2", None), _candidate("1/2")]
    texts = ["best_of_n(n=2, select=majority)", "best_of_n(n=2)"]
    found = _measured(tmp_path, pool, [], texts)
    assert found.accuracy[0, 0] == 1.0
    assert np.isnan(found.accuracy[0, 1])


def test_a_candidate_that_cannot_be_scored_does_not_vote_by_scores(tmp_path: Path) -> None:
    unscorable = replace(_candidate("3"), scores=())
    pool = [unscorable, _candidate("1/2", 0.9), _candidate("4", 0.2), unscorable]
    runs = [("beam_search(n=4)", [unscorable, _candidate("1/2", 0.1)])]
    names = ("best_of_n(n=4)", "best_of_n(n=4, select=best)", "beam_search(n=4)")
    found = _measured(tmp_path, pool, runs, [*names, "best_of_n(n=4, select=majority)"])
    assert found.accuracy[0].tolist() == [1.0, 1.0, 1.0, 0.0]
    np.testing.assert_array_equal(found.scores[0], [np.nan, 0.9, 0.2, np.nan])


def test_where_most_cannot_be_scored_nothing_is_selected_by_scores(tmp_path: Path) -> None:
    unscorable = replace(_candidate("3"), scores=())
    pool = [unscorable, unscorable, _candidate("1/2")]
    found = _measured(tmp_path, pool, [], ["best_of_n(n=3)", "best_of_n(n=3, select=majority)"])
    np.testing.assert_array_equal(found.accuracy[0], [np.nan, 0.0])


def test_the_aggregation_is_the_verifiers_unless_the_strategy_says_otherwise(
    tmp_path: Path,
) -> None:
    rising = replace(_candidate("1/2"), scores=(0.1, 0.9))
    falling = replace(_candidate("3"), scores=(0.8, 0.7))
    texts = ["best_of_n(n=2, select=best)", "best_of_n(n=2, select=best, aggregate=min)"]
    found = _measured(tmp_path, [rising, falling], [], texts)
    assert found.accuracy[0].tolist() == [1.0, 0.0]


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with (
        RolloutStore.create(tmp_path / "r.db", ORIGIN) as store,
        pytest.raises(InputError, match="holds no samples"),
    ):
        measure(store, [])


def test_coverage_is_what_a_perfect_selection_would_reach(tmp_path: Path) -> None:
    pool = [_candidate("1/2")] + [_candidate("3")] * 3
    right, wrong = [_candidate("1/2"), _candidate("3")], [_candidate("4")]
    subtrees = [("dvts(n=4)", found) for found in (right, wrong, wrong)]
    texts = ["best_of_n(n=1)", "best_of_n(n=2)", "best_of_n(n=4)", "dvts(n=8)", "dvts(n=16)"]
    found = _measured(tmp_path, pool, subtrees, texts)
    np.testing.assert_allclose(found.coverage[0], [1 / 4, 1 / 2, 1.0, 2 / 3, np.nan])
