"""What an evaluation says, in sentences: for the command line and for the page."""

from __future__ import annotations

from typing import Literal

from router.evaluation.comparison import ONE_FOR_ALL
from router.evaluation.records import Bounded, Equal, Evaluation, Gain, LevelPair, Point
from router.evaluation.spending import VOTE_OF, VOTES
from router.intervals import Figure

Unit = Literal["generations", "tokens", "flops"]

_SLACK = 1e-9
_GAIN = 1.05  # less is none

_NAMED = {
    "learned": "routed by learned difficulty",
    "prefill": "routed by the prefill",
    "pilot": "routed by a pilot",
    "oracle": "routed by true difficulty",
    ONE_FOR_ALL: "one strategy for all",
    **{name: f"best single {name}" for name in VOTES},
}


def label(evaluation: Evaluation, name: str) -> str:
    """A policy, or a fixed strategy by its family, in words.

    Raises:
        KeyError: the evaluation knows neither.
    """
    if name in _NAMED:
        return _NAMED[name]
    if name.startswith(VOTE_OF):
        return f"best single {name}"
    every = [s for curve in evaluation.curves for s in curve.strategies]
    largest = {s.family: s for s in sorted(every, key=lambda s: s.n)}[name]
    return largest.in_words(sized=largest.n == 1)  # one sample alone is no vote


def baseline_label(evaluation: Evaluation) -> str:
    """What compute is compared with, in words."""
    return label(evaluation, evaluation.baseline)


def share(figure: Figure) -> str:
    """`41.2 %`."""
    return f"{100 * figure.value:.1f}\N{NO-BREAK SPACE}%"


def interval(figure: Figure) -> str:
    """`35–47`, in per cent."""
    return f"{100 * figure.low:.0f}–{100 * figure.high:.0f}"


def percent(figure: Figure) -> str:
    """`41.2 % (35–47)`."""
    return f"{share(figure)} ({interval(figure)})"


def points(figure: Figure) -> str:
    """Percentage points, `+2.1 (-0.4 to +4.8)`."""
    value, low, high = (100 * one + 0.0 for one in (figure.value, figure.low, figure.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def times(evaluation: Evaluation, equal: Equal, unit: Unit) -> str:
    """As `ratio`, in one: `3.1x (1.2–>4.0)`."""
    value, bounds = ratio(evaluation, equal, unit)
    return f"{value} ({bounds})" if bounds else value


def ratio(evaluation: Evaluation, equal: Equal, unit: Unit) -> tuple[str, str]:
    """How many times as much the baseline spends for equal accuracy, and its interval.

    `over`, or `>`, where it has no limit; no interval where there is none.
    """
    found: Bounded | None = getattr(equal, unit)
    own, largest = _spent(evaluation, equal, unit), getattr(evaluation.baseline_curve[-1], unit)
    if found is None or own is None or largest is None:
        return "not known", ""

    def text(value: float | None, beyond: str) -> str:
        return f"{beyond}{largest / own:.1f}" if value is None else f"{value:.1f}"

    value = f"{text(found.value, 'over ')}x"
    if found.low is None:
        return value, ""
    return value, f"{text(found.low, '>')}–{text(found.high, '>')}"


def _spent(evaluation: Evaluation, equal: Equal, unit: Unit) -> float | None:
    if unit == "generations":
        return equal.spent
    point = evaluation.curve(equal.policy).at(equal.budget)
    assert point is not None
    value: float | None = getattr(point, unit)
    return value


def headline(evaluation: Evaluation, policy: str = "learned") -> str:
    """The field's headline: what the baseline needs for the same accuracy."""
    budget = evaluation.headline_budget
    equal = equal_at(evaluation, policy, budget)
    point = evaluation.curve(policy).at(budget)
    assert point is not None
    name, compute = baseline_label(evaluation), equal.generations
    within = ""
    if evaluation.tolerance:
        within = f" with a tolerance of {evaluation.tolerance:g}, spending {point.generations:.1f}"
    start = (
        f"{label(evaluation, policy).capitalize()} at {budget}{within}: {percent(point.accuracy)}"
    )
    spent = times(evaluation, equal, "generations").replace("x", "x less compute", 1)
    if equal.samples.value is None:
        largest = evaluation.baseline_curve[-1].budget
        reaches = f"{name} does not reach that with N up to {largest}"
        return f"{start}; {reaches}: {spent}{_doubt(compute)}."
    needs = f"{name} needs {equal.samples.value:.3g} for that"
    if compute.value is not None and compute.value < _GAIN:
        return f"{start}; {needs}: no gain."
    return f"{start}; {needs}: {spent}{_doubt(compute)}."


def _doubt(ratio: Bounded) -> str:
    return (
        ", though the interval includes no gain" if ratio.low is not None and ratio.low < 1 else ""
    )


def against_fixed(evaluation: Evaluation, policy: str = "learned") -> str:
    """Whether some fixed strategy is better than routing, at which budgets."""
    worse = [gain for gain in _best_fixed(evaluation, policy) if gain.gain.high < -_SLACK]
    if not worse:
        return "At no budget is routing significantly below the best single fixed strategy."
    listed = ", ".join(
        f"{g.budget} ({label(evaluation, g.strategy)}, {points(g.gain)} points)" for g in worse
    )
    return f"Routing is significantly below the best single fixed strategy at {listed}."


def _best_fixed(evaluation: Evaluation, policy: str) -> list[Gain]:
    """The gain over the fixed strategy that is best at each budget."""
    return [
        min(
            (g for g in evaluation.gains if (g.policy, g.budget) == (policy, budget)),
            key=lambda g: g.gain.value,
        )
        for budget in evaluation.budgets
    ]


def differences(evaluation: Evaluation, policy: str = "learned") -> str:
    """Whether problems got different strategies at all; a single generation leaves no choice."""
    found = evaluation.curve(policy).points
    points = [point for point in found if point.budget > 1] or list(found)
    chosen = {point.budget: by_family(point) for point in points}
    differing = [str(budget) for budget, families in chosen.items() if len(families) > 1]
    if differing:
        return f"Problems got different strategies at budgets {', '.join(differing)}."
    every = {name for families in chosen.values() for name in families}
    if len(every) == 1:
        return f"One strategy wins everywhere: every problem got {label(evaluation, every.pop())}."
    listed = ", ".join(f"{label(evaluation, *names)} at {n}" for n, names in chosen.items())
    return f"At each budget every problem got the same strategy: {listed}."


def sizes(evaluation: Evaluation, policy: str = "learned") -> str:
    """What a tolerance made of the headline's budget: who got how much."""
    budget = evaluation.headline_budget
    point = evaluation.curve(policy).at(budget)
    assert point is not None
    listed = ", ".join(f"{strategy} for {part:.0%}" for strategy, part in point.choices.items())
    return f"Of the problems with a budget of {budget}: {listed}."


def by_family(point: Point) -> dict[str, float]:
    """Share of the problems that each family of strategies was chosen for."""
    found: dict[str, float] = {}
    for strategy, part in point.choices.items():
        found[strategy.family] = found.get(strategy.family, 0.0) + part
    return found


def losses(evaluation: Evaluation, policy: str = "learned") -> str:
    """Which part loses accuracy, at the headline's budget."""
    budget = evaluation.headline_budget
    regret = next(r for r in evaluation.regret if (r.policy, r.budget) == (policy, budget))
    parts = {
        "a perfect selection among its candidates": regret.selection,
        "true difficulty": regret.difficulty,
        "the best strategy of each level in hindsight": regret.table,
    }
    listed = ", ".join(f"{name} {points(figure)}" for name, figure in parts.items())
    return f"What would add to it at {budget}, in points: {listed}."


def equal_at(evaluation: Evaluation, policy: str, budget: int) -> Equal:
    """What the baseline needs for this policy's accuracy at this budget."""
    wanted = policy, budget, None
    return next(e for e in evaluation.equal if (e.policy, e.budget, e.average) == wanted)


def at_averages(evaluation: Evaluation, policy: str) -> list[Equal]:
    """The same at each average, the smallest first."""
    return [e for e in evaluation.equal if e.policy == policy and e.average is not None]


def averaged(evaluation: Evaluation, policy: str = "learned") -> str:
    """What routing gains where problems cost so much on average."""
    found = [e for e in at_averages(evaluation, policy) if e.average in (2.0, 4.0, 8.0)]
    found = found or at_averages(evaluation, policy)
    if not found:
        return "No average budget is within what was measured."
    listed = ", ".join(
        f"{times(evaluation, e, 'generations')} at {e.average:g} ({points(e.gain)} points)"
        for e in found
    )
    name = baseline_label(evaluation)
    return f"With an average budget, the {name} has to spend so much for equal accuracy: {listed}."


def paired(evaluation: Evaluation) -> str:
    """Whether what depends on the level in the table holds on other problems."""
    pairs = evaluation.pairs
    if not pairs:
        return "At each budget the table gives every level the same strategy."
    better = [pair for pair in pairs if pair.gain.low > _SLACK]
    worse = [pair for pair in pairs if pair.gain.high < -_SLACK]

    def listed(some: list[LevelPair]) -> str:
        return ", ".join(f"level {p.level} at {p.budget} ({points(p.gain)})" for p in some)

    both = (("better", better), ("worse", worse))
    found = "; ".join(f"{word} at {listed(some)}" for word, some in both if some)
    return (
        f"In {len(pairs)} cells a level's strategy is another than the best one for all levels."
        f" Beyond 95 %, in pairs, that is {found or 'nowhere better, and nowhere worse'}."
    )


def replayed(evaluation: Evaluation) -> str:
    """Where the numbers come from."""
    rollouts = evaluation.provenance.rollouts
    return (
        f"{rollouts.replayed:,} generations replayed from {rollouts.store},"
        f" {rollouts.sampled:,} sampled now."
    )
