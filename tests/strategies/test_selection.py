"""Aggregation of step scores and selection among candidates."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.models.base import Aggregation
from router.models.errors import InputError, NoCandidates, VerifierError
from router.models.types import Chain, Problem, Step
from router.strategies.base import Candidate, Select
from router.strategies.selection import Selected, Vote, aggregate, select

PROBLEM = Problem(id="p", text="?")
BY_SCORE: tuple[Select, ...] = ("majority", "best", "weighted")


def candidate(answer: str | None, *scores: float) -> Candidate:
    chain = Chain(PROBLEM).extend(Step(f"so {answer}", "stop"))
    return Candidate(chain, scores or None, answer)


def choose(candidates: list[Candidate], how: Select, aggregation: Aggregation = "last") -> Selected:
    return select(candidates, [c.answer for c in candidates], how, aggregation)


# --- aggregation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"), [("last", 0.5), ("min", 0.2), ("mean", 0.5), ("prod", 0.08)]
)
def test_aggregate(how: Aggregation, expected: float) -> None:
    assert aggregate((0.8, 0.2, 0.5), how) == pytest.approx(expected)


@given(st.floats(0, 1))
def test_every_aggregation_of_one_score_is_that_score(score: float) -> None:
    assert {aggregate([score], how) for how in get_args(Aggregation)} == {score}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_aggregations_are_ordered(scores: list[float]) -> None:
    assert (
        aggregate(scores, "prod") <= aggregate(scores, "min") <= aggregate(scores, "mean") + 1e-12
    )
    assert aggregate(scores, "mean") <= max(scores) + 1e-12


@pytest.mark.parametrize("how", get_args(Aggregation))
def test_aggregate_refuses_no_scores(how: Aggregation) -> None:
    with pytest.raises(VerifierError, match="no step scores"):
        aggregate((), how)


@pytest.mark.parametrize("how", get_args(Aggregation))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_aggregate_refuses_what_is_not_finite(how: Aggregation, bad: float) -> None:
    with pytest.raises(VerifierError, match="score of step 1"):
        aggregate((0.5, bad, 0.5), how)


# --- selection ---------------------------------------------------------------------------------

# 7 is the commonest, 8 has the best solution, 9 the largest sum.
SPLIT = [
    *(candidate("7", 0.1, 0.2), candidate("7", 0.9, 0.25), candidate("7", 0.9, 0.3)),
    candidate("8", 0.1, 0.9),
    *(candidate("9", 0.7, 0.6), candidate("9", 0.2, 0.7)),
]


@pytest.mark.parametrize(
    ("how", "answer", "shown"), [("majority", "7", 2), ("best", "8", 3), ("weighted", "9", 5)]
)
def test_each_selection_takes_its_own_winner(how: Select, answer: str, shown: int) -> None:
    choice = choose(SPLIT, how)
    assert choice.answer == answer
    assert choice.candidate is SPLIT[shown]
    assert choice.votes[0].answer == answer


def test_votes_report_every_answer() -> None:
    votes = choose(SPLIT, "weighted").votes
    assert [(v.answer, v.count, v.best) for v in votes] == [
        ("9", 2, 0.7),
        ("8", 1, 0.9),
        ("7", 3, 0.3),
    ]
    assert [v.weight for v in votes] == pytest.approx([1.3, 0.9, 0.75])
    assert votes[1].to_dict() == {"answer": "8", "count": 1, "weight": 0.9, "best": 0.9}


def test_aggregation_decides_the_score() -> None:
    candidates = [candidate("1", 0.9, 0.5), candidate("2", 0.1, 0.6)]
    assert choose(candidates, "best", "last").answer == "2"
    assert choose(candidates, "best", "min").answer == "1"


def test_groups_not_texts_are_counted() -> None:
    candidates = [candidate("1/2"), candidate("0.5"), candidate("3")]
    choice = select(candidates, ["1/2", "1/2", "3"], "majority")
    assert choice.votes == (Vote("1/2", 2), Vote("3", 1))


def test_majority_without_scores_shows_the_first() -> None:
    candidates = [candidate("3"), candidate("5"), candidate("5")]
    assert choose(candidates, "majority").candidate is candidates[1]


def test_majority_tie_goes_to_the_larger_weight_then_to_the_first() -> None:
    assert choose([candidate("1", 0.2), candidate("2", 0.3)], "majority").answer == "2"
    assert choose([candidate("2"), candidate("1")], "majority").answer == "2"
    assert choose([candidate(None), candidate("1"), candidate("2")], "majority").answer == "1"


@pytest.mark.parametrize("how", BY_SCORE)
def test_full_ties_go_to_the_answer_that_came_first(how: Select) -> None:
    candidates = [candidate("3", 0.4), candidate("1", 0.4), candidate("1", 0.2)]
    candidates.append(candidate("3", 0.2))
    choice = choose(candidates, how)
    assert choice.candidate is candidates[0]
    assert [vote.answer for vote in choice.votes] == ["3", "1"]


def test_best_tie_goes_to_the_larger_weight() -> None:
    candidates = [candidate("1", 0.9), candidate("2", 0.9), candidate("2", 0.1)]
    assert choose(candidates, "best").answer == "2"


@pytest.mark.parametrize("how", BY_SCORE)
def test_a_candidate_without_an_answer_never_wins_over_one_with(how: Select) -> None:
    candidates = [candidate(None, 0.9), candidate(None, 0.9), candidate("1", 0.0)]
    choice = choose(candidates, how)
    assert choice.candidate is candidates[2]
    assert choice.votes == (Vote("1", 1, 0.0, 0.0),)


@pytest.mark.parametrize("how", BY_SCORE)
def test_no_answer_at_all_is_said_not_invented(how: Select) -> None:
    candidates = [candidate(None, 0.2), candidate(None, 0.9)]
    assert choose(candidates, how) == Selected(candidates[1], None, ())


@pytest.mark.parametrize("how", BY_SCORE)
def test_no_candidates(how: Select) -> None:
    with pytest.raises(NoCandidates):
        choose([], how)


@pytest.mark.parametrize("how", ["best", "weighted"])
def test_missing_scores_are_refused(how: Select) -> None:
    with pytest.raises(InputError, match="candidate 1 has none"):
        choose([candidate("1", 0.5), candidate("2")], how)


@pytest.mark.parametrize("how", BY_SCORE)
def test_nan_is_refused(how: Select) -> None:
    with pytest.raises(VerifierError):
        choose([candidate("1", 0.5), candidate("2", math.nan)], how)


# Few distinct scores and answers, so that ties are common.
CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.sampled_from(["1", "2", "3", None]),
        st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7]),
        st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7]),
    ),
    min_size=1,
    max_size=10,
)
HOW = st.sampled_from(BY_SCORE)
AGGREGATION = st.sampled_from(get_args(Aggregation))


@given(st.data(), CANDIDATES, HOW, AGGREGATION)
def test_the_order_of_candidates_decides_between_equals_only(
    data: st.DataObject, candidates: list[Candidate], how: Select, aggregation: Aggregation
) -> None:
    shuffled = data.draw(st.permutations(candidates))
    one, other = choose(candidates, how, aggregation), choose(shuffled, how, aggregation)

    def ranks(choice: Selected) -> list[tuple[object, ...]]:
        best = how == "best"
        return [(vote.count, vote.weight, best and vote.best) for vote in choice.votes]

    assert sorted(one.votes, key=str) == sorted(other.votes, key=str)
    assert ranks(one) == ranks(other)
    if one.votes:
        assert (one.answer == other.answer) or ranks(one)[0] == ranks(other)[0]


@given(CANDIDATES, HOW, AGGREGATION)
def test_chosen_candidate_is_the_best_scored_that_gives_the_answer(
    candidates: list[Candidate], how: Select, aggregation: Aggregation
) -> None:
    choice = choose(candidates, how, aggregation)
    assert choice.candidate.answer == choice.answer
    own = [aggregate(c.scores or (), aggregation) for c in candidates if c.answer == choice.answer]
    assert aggregate(choice.candidate.scores or (), aggregation) == max(own)


@given(CANDIDATES, HOW, AGGREGATION)
def test_everyone_twice_changes_nothing(
    candidates: list[Candidate], how: Select, aggregation: Aggregation
) -> None:
    once = choose(candidates, how, aggregation)
    assert choose(candidates * 2, how, aggregation).answer == once.answer


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12))
def test_equal_scores_make_weighted_a_majority(answers: list[str | None]) -> None:
    candidates = [candidate(answer, 0.3) for answer in answers]
    assert choose(candidates, "weighted") == choose(candidates, "majority")


@given(CANDIDATES, AGGREGATION)
def test_best_answer_has_the_highest_score_of_all(
    candidates: list[Candidate], aggregation: Aggregation
) -> None:
    answered = [c for c in candidates if c.answer is not None] or candidates
    choice = choose(candidates, "best", aggregation)
    highest = max(aggregate(c.scores or (), aggregation) for c in answered)
    assert aggregate(choice.candidate.scores or (), aggregation) == highest
