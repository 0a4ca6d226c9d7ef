"""Which configurations are fitted: by default, and of a text at every budget that it fits."""

from __future__ import annotations

from collections.abc import Sequence

from router.models.errors import InputError
from router.strategies.base import Strategy
from router.strategies.budget import SLACK, Budget
from router.strategies.fleet import ALONE, Fleet, cost_of, terms_of
from router.strategies.registry import parse_strategy

MAJORITY = "best_of_n(select=majority)"
DEFAULTS = (  # votes that won no cell of a shipped fit are not among them: benchmarks/README.md
    MAJORITY,
    "best_of_n",
    "beam_search(width=4)",
    "lookahead(width=4, k=1)",
    # Small budgets cannot vote off the errors that a high temperature makes.
    "best_of_n(n=1, select=majority, temperature=0)",
    "best_of_n(select=majority, temperature=0.3)",
    "best_of_n(temperature=0.3)",
    # What they draw is drawn for the others too, so they cost a fit nothing.
    'best_of_n(select=majority, temperatures="0:1, 0.3:3")',
    'best_of_n(temperatures="0:1, 0.3:3")',
    *(
        f'best_of_n(temperatures="0:1, 0.3:3", worth={worth})'
        for worth in (0.012, 0.02, 0.03, 0.05, 0.08, 0.12)
    ),
    *(  # for those without a verifier; 0.1 asks whether two agree
        f'best_of_n(select=majority, temperatures="0:1, 0.3:3", worth={worth})'
        for worth in (0.03, 0.05, 0.1)
    ),
)
_JUDGED = ((1, 0.5), (2, 1), (4, 2), (4, 3))
"""First votes that another model may follow: of how many, and the lead that convinces."""


def fleet_defaults(fleet: Fleet) -> list[str]:
    """What is fitted of the further models of a fleet: votes of each, fixed and anytime, and what
    escalates to it."""
    found = []
    first = next(iter(fleet.values()), None)
    for name, terms in list(fleet.items())[1:]:
        of = f'model="{name}"'
        greedy = f"best_of_n(n=1, select=majority, temperature=0, {of})"
        majority = f"best_of_n(select=majority, {of})"
        vote = f"best_of_n({of})" if terms.verified else majority
        found += list(dict.fromkeys([majority, vote, greedy]))
        found += [vote.replace(of, f"worth={worth}, {of}") for worth in (0.02, 0.05, 0.1)]
        verified = first is not None and first.verified
        select = "" if verified else ", select=majority"
        found += [
            f"escalate(first=best_of_n(n={n}{select}), then={then}, lead={lead})"
            for n, lead in _JUDGED
            if n > 1 or verified  # one sample agrees with itself
            for then in (greedy, vote)
        ]
    return found


def configurations(
    budgets: Sequence[int], texts: Sequence[str], *, verifier: bool, fleet: Fleet = ALONE
) -> tuple[Strategy, ...]:
    """Each strategy text at every budget that it fits; a text with `n` only as it is.

    verifier: whether the first model has one. fleet: the terms of several models.

    Raises:
        InputError: budgets that do not rise from 1 or more, a bad strategy, one that fits no
            budget, or one that needs a verifier where there is none.
    """
    if not budgets or list(budgets) != sorted(set(budgets)):
        raise InputError(f"budgets must rise, without repeats, not {_listed(budgets)}")
    for budget in budgets:
        Budget(budget)
    found: dict[str, Strategy] = {}
    for text in texts:
        fitting = []
        for budget in budgets:
            try:
                strategy = parse_strategy(text, budget, fleet)
            except InputError as error:
                refused = error
                continue
            if cost_of(strategy, fleet) <= budget + SLACK:
                fitting.append(strategy)
            else:
                refused = InputError(f"{strategy} costs more than {budget} generations")
        if not fitting:
            raise InputError(f"{text} fits none of the budgets {_listed(budgets)}: {refused}")
        for stage in fitting[0].stages:
            terms = terms_of(stage.model, fleet)
            if stage.needs_verifier and not (verifier if terms is None else terms.verified):
                raise InputError(
                    f"{text} needs a verifier and there is none: give one with --verifier,"
                    f" or fit --strategy '{MAJORITY}' alone"
                )
        found.update((str(strategy), strategy) for strategy in fitting)
    return tuple(found.values())


def _listed(budgets: Sequence[int]) -> str:
    return ",".join(map(str, budgets)) or "none"
