"""A bundle as a page: which search pays, per level of difficulty and budget."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from router.bundle import Bundle
from router.difficulty.validation import Bin
from router.evaluation.study import VOTE
from router.fitting.configurations import MAJORITY
from router.report import figures
from router.report.figures import Line, short
from router.report.page import (
    Card,
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
from router.strategies.base import Strategy
from router.table import Cell, Entry

_FEATURES = 15


def render(bundle: Bundle) -> str:
    """The page. Needs matplotlib."""
    return _BundlePage(bundle).render()


class _BundlePage:
    """winners: the winning entry of each (level, budget). families: of all entries, in order.

    words: each family as it is shown: both votes first, which all others stand beside, then the
        best.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.table = bundle.table
        self.levels = range(1, self.table.levels + 1)
        self.winners = {
            (cell.level, cell.budget): _winner(bundle, cell) for cell in self.table.cells
        }
        self.family = {
            entry.strategy: entry.strategy.family
            for cell in self.table.cells
            for entry in cell.entries
        }
        self.words = self._words()
        self.families = sorted(
            {*self.family.values()},
            key=lambda name: (name not in (VOTE, MAJORITY), self._rank(name)),
        )
        self.colour = figures.colours(self.families)

    def render(self) -> str:
        origin, data = self.bundle.origin, self.bundle.manifest["data"]
        intro = (
            f"Fitted on {data['problems']} problems and {data['samples']:,} samples of"
            f" {self.bundle.asks}; budgets in {self.table.cost}. Accuracies are of the"
            " problems of the fit; router evaluate measures on others."
        )
        body = [
            lead([self._verdict()]),
            self._cards(),
            self._grid(),
            self._optimal(),
            self._strategies(),
            self._levels(),
            self._spend(),
            self._difficulty(),
            self._origin(),
        ]
        return page(f"Routing {origin.model}: bundle", intro, body)

    # -- sections -------------------------------------------------------------------------

    def _verdict(self) -> str:
        """Whether difficulty makes a difference to the choice; N = 1 leaves none."""
        budgets = [budget for budget in self.table.budgets if budget > 1] or self.table.budgets
        by_budget = {
            budget: {self._won(level, budget) for level in self.levels} for budget in budgets
        }
        differing = [str(budget) for budget, found in by_budget.items() if len(found) > 1]
        if differing:
            return (
                "On the problems of the fit, levels have winners of their own at budgets"
                f" {', '.join(differing)}; whether on others, router evaluate tests in pairs."
            )
        every = {name for found in by_budget.values() for name in found}
        if len(every) == 1:
            name = self.words[every.pop()]
            return f"One strategy wins everywhere, at every level and budget: {name}."
        listed = ", ".join(f"{self.words[name]} at {b}" for b, (name,) in by_budget.items())
        return f"At each budget one strategy wins at every level: {listed}."

    def _won(self, level: int, budget: int) -> str:
        return self.family[self.winners[level, budget].strategy]

    def _cards(self) -> str:
        largest = self.table.budgets[-1]
        found = [
            Card(
                f"{100 * accuracy:.0f}\N{NO-BREAK SPACE}%",
                "measured on held-out folds" if held_out else "on the problems of the fit",
                f"of problems solved at N = {largest}, levels known",
            )
            for accuracy, held_out in [self._expected(largest)]
        ]
        found.append(Card(str(self.table.levels), "by pass@1", "levels of difficulty"))
        found.append(Card(str(len(self.family)), "over all budgets", "configurations measured"))
        quality = self._validation()
        if quality is not None:
            found.append(
                Card(
                    f"{quality['spearman']:.2f}",
                    "cross-validated",
                    "rank correlation of difficulty",
                )
            )
        return cards(found)

    def _grid(self) -> str:
        rows = []
        edges = (1.0, *self.bundle.levels.edges, 0.0)
        for level in self.levels:
            share = f"{self.bundle.prior[level - 1]:.0%} of problems"
            name = f"{level}<small>pass@1 {edges[level]:.2f}–{edges[level - 1]:.2f}</small>"
            cells = [self._cell(self.table.cell(level, budget)) for budget in self.table.budgets]
            rows.append([f"{name}<small>{share}</small>", *cells])
        head = ["level", *(f"N = {budget}" for budget in self.table.budgets)]
        sentence = (
            "The winner of every cell, its accuracy with a 95 % interval (on held-out folds where"
            " there are enough problems), and its mean tokens."
        )
        return section("The table", sentence, table(head, rows, stacked=True))

    def _cell(self, cell: Cell) -> str:
        chosen = self.winners[cell.level, cell.budget]
        shown = cell.held_out or chosen.estimate
        tokens = (
            "" if chosen.cost.tokens is None else f"<small>{chosen.cost.tokens:,.0f} tokens</small>"
        )
        return (
            f"<b>{html.escape(chosen.strategy.in_words())}</b><span>{shown.accuracy:.0%}"
            f" <small>{100 * shown.low:.0f}–{100 * shown.high:.0f}</small>{tokens}</span>"
        )

    def _optimal(self) -> str:
        lines = [self._expected_line()]
        known = [name for name in (VOTE, MAJORITY) if name in self.families]
        lines += [line for name in known if (line := self._line(name)).x]
        sentence = "What the table's choices solve where the level is known."
        if len(lines) > 1:
            gap = lines[0].y[-1] - lines[1].y[-1]
            other = f"a {lines[1].label} of {short(lines[1].x[-1])}"
            than = f"{abs(gap):.1f} points {'more' if gap >= 0 else 'fewer'} than {other}"
            sentence = f"{sentence[:-1]}: at N = {self.table.budgets[-1]}, {than}."
        return self._lined("Compute-optimal search", sentence, lines)

    def _strategies(self) -> str:
        lines = [line for name in self.families if (line := self._line(name)).x]
        reached = {line.label: line.y[-1] for line in lines if line.x[-1] == self.table.budgets[-1]}
        best = max(reached, key=reached.__getitem__)
        sentence = f"Of single strategies, {best} solves most at N = {self.table.budgets[-1]}."
        return self._lined("Each strategy for every problem", sentence, lines)

    def _lined(self, title: str, sentence: str, lines: Sequence[Line]) -> str:
        draw = figures.curves(lines, "N, generations at most")
        return section(title, sentence, picture(draw, sentence, figures.keys(lines)))

    def _levels(self) -> str:
        parts = ["<h3>all problems</h3>", heat(self.table.budgets, self._overall())]
        for level in self.levels:
            rows: dict[str, dict[int, float]] = {}
            for budget in self.table.budgets:
                for name, entry in self._largest(self.table.cell(level, budget)).items():
                    shown = rows.setdefault(self.words[name], {})
                    shown[budget] = 100 * entry.estimate.accuracy
            share = f"level {level}, {self.bundle.prior[level - 1]:.0%} of problems"
            parts += [f"<h3>{share}</h3>", heat(self.table.budgets, rows)]
        sentence = (
            "Problems solved, %, by every strategy at each budget N, the best ones first; estimates"
            " are shrunk, so that few problems cannot make a winner."
        )
        return section("By level", sentence, "".join(parts))

    def _overall(self) -> dict[str, dict[int, float]]:
        lines = {self.words[name]: self._line(name) for name in self.families}
        return {
            name: {int(n): accuracy for n, accuracy in zip(line.x, line.y, strict=True)}
            for name, line in lines.items()
            if line.x
        }

    def _spend(self) -> str:
        parts: dict[str, list[Line]] = {}
        for unit in ("tokens", "flops"):
            lines = [line for name in self.families if (line := self._line(name, unit)).x]
            if lines:
                parts[f"{'FLOPs' if unit == 'flops' else unit} a problem"] = lines
        if not parts:
            return ""
        sentence = "What each strategy really spends for its accuracy, the verifier included."
        legend = figures.keys(next(iter(parts.values())))
        return section("Spend", sentence, picture(figures.panels(parts), sentence, legend))

    def _difficulty(self) -> str:
        quality = self._validation()
        if quality is None:
            return ""
        assert self.bundle.estimator is not None
        classifier = self.bundle.estimator.classifier
        gains = sorted(
            zip(classifier.feature_importances_.tolist(), classifier.names_, strict=True),
            reverse=True,
        )
        used = [(gain, name) for gain, name in gains[:_FEATURES] if gain > 0]
        bins = [Bin(**one) for one in quality["reliability"]]
        sentence = (
            "Where the line is dashed, levels come true as often as predicted; the prediction is"
            f" {100 * quality['calibration_error']:.0f} points off in the mean, and its rank"
            f" correlation with pass@1 is {quality['spearman']:.2f}, cross-validated."
        )
        reliability = figures.reliability({VOTE: bins}, figures.colours([VOTE]))
        found = section("Learned difficulty", sentence, picture(reliability, sentence))
        if used:
            why = f"What the estimator goes by; most of all {used[0][1].replace('_', ' ')}."
            names = [name.replace("_", " ") for _, name in used]
            draw = figures.ranked(names, [100 * gain for gain, _ in used], "share of the gain, %")
            found += section("Features", why, picture(draw, why))
        return found

    def _origin(self) -> str:
        manifest = self.bundle.manifest
        known = {name: manifest.get(name) for name in ("created", "package_version", "commit")}
        settings: Mapping[str, Any] = manifest["settings"]
        origin = self.bundle.origin.to_dict()
        return details("Where this comes from", facts({**known, **origin, **settings}))

    # -- parts ----------------------------------------------------------------------------

    def _words(self) -> dict[str, str]:
        """A family that was measured with one sample alone is called that."""
        largest: dict[str, Strategy] = {}
        for strategy, family in self.family.items():
            if family not in largest or strategy.n > largest[family].n:
                largest[family] = strategy
        return {family: one.in_words(sized=one.n == 1) for family, one in largest.items()}

    def _rank(self, name: str) -> tuple[float, float]:
        """The best last budgets first, and there the most accurate."""
        line = self._line(name, coloured=False)
        return (-line.x[-1], -line.y[-1]) if line.x else (0.0, 0.0)

    def _validation(self) -> Mapping[str, Any] | None:
        """The estimator's cross-validation, if it has one."""
        estimator = self.bundle.estimator
        found = None if estimator is None else estimator.classifier.provenance_.get("validation")
        return found if isinstance(found, Mapping) else None

    def _largest(self, cell: Cell) -> dict[str, Entry]:
        """Of each family the configuration that spends most within the cell."""
        found: dict[str, Entry] = {}
        for entry in sorted(cell.entries, key=lambda e: e.cost.generations):
            found[self.family[entry.strategy]] = entry
        return found

    def _expected(self, budget: int) -> tuple[float, bool]:
        """Accuracy of the winners over all levels; whether all of it is held out."""
        cells = [self.table.cell(level, budget) for level in self.levels]
        shown = [c.held_out or self.winners[c.level, c.budget].estimate for c in cells]
        total = sum(p * s.accuracy for p, s in zip(self.bundle.prior, shown, strict=True))
        return total, all(cell.held_out is not None for cell in cells)

    def _expected_line(self) -> Line:
        budgets = self.table.budgets
        reached = [100 * self._expected(budget)[0] for budget in budgets]
        return Line("the table's choice", figures.ROUTED, budgets, reached, bold=True)

    def _line(self, name: str, unit: str = "generations", *, coloured: bool = True) -> Line:
        """Mean accuracy of a family over all levels, where every level has measured it."""
        x: list[float] = []
        y: list[float] = []
        for budget in self.table.budgets:
            rows = [
                self._largest(self.table.cell(level, budget)).get(name) for level in self.levels
            ]
            entries = [entry for entry in rows if entry is not None]
            costs = [getattr(entry.cost, unit) for entry in entries]
            if len(entries) < len(rows) or None in costs:
                continue
            prior = self.bundle.prior
            amount = sum(p * cost for p, cost in zip(prior, costs, strict=True))
            if x and amount <= x[-1]:
                continue
            x.append(amount)
            y.append(
                100 * sum(p * e.estimate.accuracy for p, e in zip(prior, entries, strict=True))
            )
        colour = self.colour[name] if coloured else figures.OTHERS
        return Line(self.words[name], colour, x, y)


def _winner(bundle: Bundle, cell: Cell) -> Entry:
    return bundle.table.best(cell.level, cell.budget)
