"""Strategies as a person would say them."""

from __future__ import annotations

import pytest

from router.strategies.registry import parse_strategy


@pytest.mark.parametrize(
    ("text", "words", "unsized"),
    [
        ("best_of_n(n=4)", "weighted vote of 4", "weighted vote"),
        ("best_of_n(n=4, select=best)", "best of 4 by score", "best score"),
        (
            "best_of_n(n=8, select=majority, temperature=0.3)",
            "majority vote of 8 at T = 0.3",
            "majority vote at T = 0.3",
        ),
        (
            "best_of_n(n=4, aggregate=min)",
            "weighted vote of 4, min of step scores",
            "weighted vote, min of step scores",
        ),
        ("beam_search(n=4)", "beam search of 4", "beam search"),
        ("beam_search(n=4, width=2)", "beam search of 4, width 2", "beam search, width 2"),
        (
            "beam_search(n=4, temperature=1.0, depth=9)",
            "beam search of 4 at T = 1, depth 9",
            "beam search at T = 1, depth 9",
        ),
        ("dvts(n=4, select=majority)", "DVTS of 4, majority vote", "DVTS, majority vote"),
        ("lookahead(n=4, k=2)", "look-ahead search of 4, k 2", "look-ahead search, k 2"),
        ("rebase(n=16)", "REBASE of 16", "REBASE"),
        ("particle_filter(n=4)", "particle filter of 4", "particle filter"),
        (
            'best_of_n(n=8, lead=2, temperatures="0.3:4")',
            "weighted vote of 8, temperatures 0.3:4, lead 2",
            "weighted vote, temperatures 0.3:4, lead 2",
        ),
        (
            "best_of_n(n=8, worth=0.02)",
            "weighted vote of 8, until one more is worth 0.02 at most",
            "weighted vote, until one more is worth 0.02 at most",
        ),
    ],
)
def test_a_strategy_is_told_in_words(text: str, words: str, unsized: str) -> None:
    strategy = parse_strategy(text)
    assert strategy.in_words() == words
    assert strategy.in_words(sized=False) == unsized
    assert strategy.to_dict()["words"] == words


@pytest.mark.parametrize("options", ["", ", select=majority", ", select=best", ", aggregate=mean"])
def test_of_one_sample_nothing_is_selected(options: str) -> None:
    assert parse_strategy(f"best_of_n(n=1{options})").in_words() == "one sample"
    heated = parse_strategy(f"best_of_n(n=1{options}, temperature=0.3)")
    assert heated.in_words() == "one sample at T = 0.3"
