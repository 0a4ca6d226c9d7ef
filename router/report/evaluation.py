"""An evaluation as a page: what routing gains, where, and which part loses."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import cycle
from typing import Literal, get_args

from router.evaluation.comparison import ONE_FOR_ALL
from router.evaluation.records import Curve, Evaluation, Point
from router.evaluation.spending import VOTE_OF
from router.evaluation.summary import (
    Unit,
    against_fixed,
    at_averages,
    averaged,
    baseline_label,
    by_family,
    differences,
    equal_at,
    headline,
    interval,
    label,
    losses,
    paired,
    points,
    ratio,
    replayed,
    share,
    sizes,
    times,
)
from router.fitting.configurations import MAJORITY
from router.intervals import Figure
from router.report import figures
from router.report.figures import Line
from router.report.fleet import versus
from router.report.page import (
    Card,
    Draw,
    Key,
    cards,
    details,
    facts,
    heat,
    lead,
    page,
    picture,
    section,
    table,
)

_TOLD = 4  # strategies that are told apart in one picture
_PARTS = {"selection": "#2a78c8", "levels": "#9a6fd0", "table": "#d9822b"}

Amount = Literal["budget", "generations", "tokens", "flops"]
"""What a point of a curve has cost."""


def render(evaluation: Evaluation) -> str:
    """The page. Needs matplotlib."""
    return _EvaluationPage(evaluation).render()


class _EvaluationPage:
    def __init__(self, evaluation: Evaluation) -> None:
        self.e = evaluation
        self.fixed = sorted((c for c in evaluation.curves if not c.routed), key=self._rank)
        routed = [curve.name for curve in evaluation.curves if curve.routed]
        self.colour = figures.colours([*routed, *(curve.name for curve in self.fixed)])

    def render(self) -> str:
        e, origin = self.e, self.e.provenance
        judge = f"verifier {origin.verifier}" if origin.verifier else "no verifier"
        intro = (
            f"{origin.model}, {judge}, on {e.problems} problems that the bundle was not fitted on."
            " All intervals are 95 %, by a paired bootstrap over problems."
        )
        sentences = [against_fixed(e), differences(e), paired(e)] + (
            [sizes(e)] if e.tolerance else []
        )
        body = [
            lead([headline(e), averaged(e)]),
            "".join(f"<p>{html.escape(s)}</p>" for s in sentences),
            "".join(f'<p class="dim">{html.escape(note)}</p>' for note in e.notes),
            self._cards(),
            self._averages(),
            self._routing(),
            self._fixed(),
            self._levels(),
            self._choices(),
            versus(e),
            self._regret(),
            self._difficulty(),
            self._spend(),
            self._numbers(),
            self._origin(),
        ]
        return page(f"Routing {origin.model}: evaluation", intro, body)

    # -- sections -------------------------------------------------------------------------

    def _cards(self) -> str:
        e, budget = self.e, self.e.headline_budget
        routed, equal = self._point("learned", budget), equal_at(e, "learned", budget)
        found = [_card(f"routed at {budget}", routed.accuracy)]
        vote = e.curve(e.baseline).at(budget)
        if vote is not None:
            found.append(_card(f"{baseline_label(e)} at {budget}", vote.accuracy))
        compute = f"compute of {baseline_label(e)} for equal accuracy"
        found.append(Card(*ratio(e, equal, "generations"), compute))
        rank = e.difficulty[0].spearman
        small = f"{rank.low:.2f}–{rank.high:.2f}"
        found.append(Card(f"{rank.value:.2f}", small, "rank correlation of difficulty"))
        if vote is not None:
            found.append(_card("a perfect choice among its candidates", vote.coverage))
        return cards(found)

    def _averages(self) -> str:
        """The figure that people forward: accuracy against what problems cost on average."""
        e = self.e
        if not at_averages(e, ONE_FOR_ALL):
            return ""
        lines = average_lines(e)
        sentence = (
            "Accuracy against what problems cost on average: each gets its own search, all of them"
            f" cost so much. {averaged(e)}"
        )
        draw = figures.curves(lines, "generations a problem, on average")
        return section("Average budgets", sentence, self._picture(draw, sentence, lines))

    def _routing(self) -> str:
        e, largest = self.e, self.e.baseline_curve[-1].budget
        lines = [
            self._line(
                e.curve(name), "generations", bold=name == "learned", dashed=name == "oracle"
            )
            for name in e.policies
        ]
        lines.append(self._line(e.curve(e.baseline), "generations", band=True))
        lines.append(self._line(e.curve(MAJORITY), "generations"))
        gain = equal_at(e, "learned", e.headline_budget).over_largest
        sentence = (
            f"Accuracy against the generations really spent. Routed at {e.headline_budget}, less"
            f" that of the {baseline_label(e)} of {largest}: {points(gain)} points."
        )
        draw = figures.curves(lines, "generations a problem")
        return section("Compute-optimal routing", sentence, self._picture(draw, sentence, lines))

    def _fixed(self) -> str:
        e = self.e
        fixed = self.fixed
        lines = [self._line(curve, "budget") for curve in fixed]
        reach = [100 * point.coverage.value for point in e.baseline_curve]
        sizes = [float(point.budget) for point in e.baseline_curve]
        lines.append(Line("pass@N", "#7a8794", sizes, reach, dashed=True))
        winners = [self._best(fixed, budget) for budget in e.budgets]
        if len(set(winners)) == 1:
            sentence = f"At every budget the best single strategy is {winners[0]}."
        else:
            listed = ", ".join(f"{n} at {b}" for b, n in zip(e.budgets, winners, strict=True))
            sentence = f"The best single strategy: {listed}."
        sentence += " The dashed line is what a perfect choice among N samples would reach."
        draw = figures.curves(lines, "N")
        return section(
            "Each strategy for every problem", sentence, self._picture(draw, sentence, lines)
        )

    def _best(self, curves: Sequence[Curve], budget: int) -> str:
        """The curve that is highest at this budget; of equals the first."""
        found = {c.name: p.accuracy.value for c in curves if (p := c.at(budget)) is not None}
        return label(self.e, max(found, key=lambda name: round(found[name], 9)))

    def _levels(self) -> str:
        e = self.e
        shown = [e.curve("learned"), *self.fixed]
        heights: dict[int, dict[str, dict[int, float]]] = {}
        for curve in shown:
            for point in curve.points:
                for level, figure in enumerate(point.levels, 1):
                    if figure is not None:
                        row = heights.setdefault(level, {}).setdefault(label(e, curve.name), {})
                        row[point.budget] = 100 * figure.value
        budget = e.headline_budget
        winners: dict[str, list[int]] = {}
        for number, size in enumerate(e.level_sizes, 1):
            if not size:
                continue
            # Of equals the first wins.
            found = {name: row.get(budget, -1.0) for name, row in heights[number].items()}
            fixed = [label(e, curve.name) for curve in self.fixed if label(e, curve.name) in found]
            best = max(fixed, key=lambda name: round(found[name], 6))
            winners.setdefault(best, []).append(number)
        if len(winners) == 1:
            what = f"{next(iter(winners))} is the best fixed strategy at every level"
        else:
            listed = "; ".join(f"{name} at {_numbers(at)}" for name, at in winners.items())
            what = f"the best fixed strategies are {listed}"
        sentence = (
            f"Problems solved, %, by true difficulty, the best ones first; at N = {budget}, {what}."
        )
        parts = [
            f"<h3>level {number}{_end(number, len(e.level_sizes))}: {size} problems</h3>"
            + heat(e.budgets, heights[number])
            for number, size in enumerate(e.level_sizes, 1)
            if size
        ]
        return section("By level", sentence, "".join(parts))

    def _choices(self) -> str:
        e = self.e
        found = e.curve("learned").points
        chosen = [by_family(point) for point in found]
        mean = {name: sum(s.get(name, 0.0) for s in chosen) for s in chosen for name in s}
        names = sorted(mean, key=lambda name: (-mean[name], name))
        names, rest = names[:_TOLD], names[_TOLD:]
        colour = figures.told_apart(names, self.colour)
        shares = {label(e, name): [one.get(name, 0.0) for one in chosen] for name in names}
        legend = [Key(label(e, name), colour[name]) for name in names]
        paint = {label(e, name): colour[name] for name in names}
        if rest:
            others = f"{len(rest)} others"
            shares[others] = [sum(one.get(name, 0.0) for name in rest) for one in chosen]
            paint[others] = figures.OTHERS
            legend.append(Key(others, figures.OTHERS))
        places = [f"N = {point.budget}" for point in found]
        sentence = f"What learned difficulty chose. {differences(e)}"
        draw = figures.stacked(places, shares, paint)
        return section("Decisions", sentence, picture(draw, sentence, legend))

    def _regret(self) -> str:
        e = self.e
        regret = [r for r in e.regret if r.policy == "learned"]
        parts = {
            "selection": [r.selection for r in regret],
            "levels": [r.difficulty for r in regret],
            "table": [r.table for r in regret],
        }
        draw = figures.groups([f"N = {r.budget}" for r in regret], parts, _PARTS, "points lost")
        legend = [
            Key("selection: to a perfect choice among its candidates", _PARTS["selection"]),
            Key("levels: to true difficulty", _PARTS["levels"]),
            Key("table: to the best strategy of each level in hindsight", _PARTS["table"]),
        ]
        sentence = losses(e)
        return section("Which part loses", sentence, picture(draw, sentence, legend))

    def _difficulty(self) -> str:
        e = self.e
        parts = {one.policy: one.validation.reliability for one in e.difficulty}
        listed = "; ".join(
            f"{label(e, one.policy)}, rank correlation with pass@1 {one.spearman}, mean gap"
            f" {100 * one.validation.calibration_error:.0f} points"
            for one in e.difficulty
        )
        sentence = f"Where the line is dashed, levels come true as often as predicted: {listed}."
        legend = [Key(label(e, name), self.colour[name]) for name in parts]
        draw = figures.reliability(parts, self.colour)
        return section("Predicted difficulty", sentence, picture(draw, sentence, legend))

    def _spend(self) -> str:
        e = self.e
        units: dict[str, Amount] = {"tokens a problem": "tokens", "FLOPs a problem": "flops"}
        shown = [e.curve("learned"), *self.fixed]
        parts = {}
        for unit, amount in units.items():
            known = [
                c for c in shown if all(getattr(point, amount) is not None for point in c.points)
            ]
            if known:
                parts[unit] = [self._line(c, amount, bold=c.name == "learned") for c in known]
        if not parts:
            return ""
        equal = equal_at(e, "learned", e.headline_budget)
        sentence = (
            f"For the accuracy of routing at {e.headline_budget}, the {baseline_label(e)} spends"
            f" {times(e, equal, 'tokens')} as many tokens and {times(e, equal, 'flops')} as many"
            " FLOPs, the verifier's included."
        )
        legend = figures.keys(next(iter(parts.values())))
        return section("Spend", sentence, picture(figures.panels(parts), sentence, legend))

    def _numbers(self) -> str:
        e = self.e
        head = ["problems solved, %", *(f"N = {budget}" for budget in e.budgets)]
        rows = [
            [html.escape(label(e, curve.name)), *(_cell(curve.at(b)) for b in e.budgets)]
            for curve in e.curves
        ]
        largest = e.baseline_curve[-1].budget
        compute = [
            [
                html.escape(label(e, q.policy)),
                str(q.budget) if q.average is None else f"average {q.average:g}",
                f">{largest}" if q.samples.value is None else f"{q.samples.value:.1f}",
                *(
                    html.escape(times(e, q, unit))
                    if q.average is None or unit == "generations"
                    else ""
                    for unit in get_args(Unit)
                ),
                points(q.gain),
            ]
            for q in e.equal
        ]
        name = baseline_label(e)
        compute_head = [
            f"{name} for equal accuracy",
            "N",
            "needs N",
            "generations",
            "tokens",
            "FLOPs",
            "points at equal cost",
        ]
        content = table(head, rows) + "<br>" + table(compute_head, compute)
        return section("All numbers", "With their intervals.", content)

    def _origin(self) -> str:
        origin = self.e.provenance.model_dump(exclude={"rollouts"})
        return details("Where this comes from", facts({**origin, "rollouts": replayed(self.e)}))

    # -- parts ----------------------------------------------------------------------------

    def _point(self, name: str, budget: int) -> Point:
        point = self.e.curve(name).at(budget)
        assert point is not None, "a policy decides at every budget"
        return point

    def _rank(self, curve: Curve) -> tuple[bool, bool, float, str]:
        """What all is compared with first, then what solves most in the end."""
        end = -curve.points[-1].accuracy.value if curve.points else 0.0
        return curve.name != self.e.baseline, curve.name != MAJORITY, end, curve.name

    def _line(
        self,
        curve: Curve,
        amount: Amount,
        *,
        bold: bool = False,
        dashed: bool = False,
        band: bool = False,
    ) -> Line:
        found = [point.accuracy for point in curve.points]
        banded = bold or band
        return Line(
            label(self.e, curve.name),
            self.colour[curve.name],
            [getattr(point, amount) or 0.0 for point in curve.points],
            [100 * figure.value for figure in found],
            [100 * figure.low for figure in found] if banded else None,
            [100 * figure.high for figure in found] if banded else None,
            dashed,
            bold,
        )

    def _picture(self, draw: Draw, sentence: str, lines: Sequence[Line]) -> str:
        return picture(draw, sentence, figures.keys(lines))


def average_lines(e: Evaluation) -> list[Line]:
    """Accuracy against average cost: routed, at true levels, one strategy, each model's votes."""
    shown = [("learned", figures.ROUTED), ("oracle", "#7a8794"), (ONE_FOR_ALL, "#2f9e64")]
    lines = []
    for policy, colour in shown:
        found = at_averages(e, policy)
        bold = policy == "learned"
        values = [equal.accuracy for equal in found]
        lines.append(
            Line(
                label(e, policy),
                colour,
                [equal.spent for equal in found],
                [100 * figure.value for figure in values],
                [100 * figure.low for figure in values] if bold else None,
                [100 * figure.high for figure in values] if bold else None,
                dashed=policy == "oracle",
                bold=bold,
            )
        )
    own = [curve.name for curve in e.curves if curve.name.startswith(VOTE_OF)]
    for name, colour in zip(own or [e.baseline], cycle(_PARTS.values()), strict=False):
        points = e.curve(name).points
        lines.append(
            Line(
                label(e, name),
                colour,
                [point.generations for point in points],
                [100 * point.accuracy.value for point in points],
            )
        )
    return lines


def _card(name: str, figure: Figure) -> Card:
    return Card(share(figure), interval(figure), name)


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    return f"{100 * point.accuracy.value:.1f}<small>({interval(point.accuracy)})</small>"


def _numbers(levels: Sequence[int]) -> str:
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"


def _end(number: int, count: int) -> str:
    if count == 1:
        return ""
    return {1: ", easiest", count: ", hardest"}.get(number, "")
