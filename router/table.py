"""The compute-optimal table: per level and budget, configurations ranked by accuracy.

The question it answers (Snell et al. 2024, sec. 3): given P(level) and a budget, which
configuration that costs no more has the best expected accuracy?
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from router.models.errors import InputError
from router.records import Considered, Decision
from router.strategies.base import Strategy
from router.strategies.fleet import Fleet, cost_of, fleet_of
from router.strategies.registry import parse_strategy

SCHEMA: Final = 1

CostUnit = Literal["generations", "tokens", "flops"]
"""What a budget is compared with. Tokens and FLOPs count in units of one plain sample's."""

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

Floats = npt.NDArray[np.float64]

_SLACK = 1e-9


class _TableRecord(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )


class FittedModel(_TableRecord):
    """A model of a fleet.

    fingerprint: of its weights; None where they are not known. cost: of one of its plain samples,
        in those of the first model.
    """

    name: str
    model: str
    verifier: str | None
    fingerprint: str | None
    cost: Positive


class Cost(_TableRecord):
    """Mean cost of one search, in generations of the first model; what is not known is None."""

    generations: Positive
    tokens: Positive | None
    flops: Positive | None


class Estimate(_TableRecord):
    """An accuracy, its 95 % interval, and the problems behind it."""

    accuracy: Probability
    low: Probability
    high: Probability
    problems: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.accuracy <= self.high:
            raise ValueError(f"accuracy {self.accuracy} lies outside {self.low} to {self.high}")
        return self


@lru_cache(maxsize=4096)
def _read(text: Any) -> Strategy:
    """A configuration stands in many cells."""
    if isinstance(text, Strategy):
        return text
    try:
        return parse_strategy(text)
    except InputError as error:
        raise ValueError(str(error)) from None


Configuration = Annotated[Strategy, BeforeValidator(_read), PlainSerializer(str)]
"""A strategy; in JSON its text."""


class Entry(_TableRecord):
    """One configuration at one level: its shrunken accuracy and its cost there."""

    strategy: Configuration
    estimate: Estimate
    cost: Cost


class Cell(_TableRecord):
    """All configurations that fit a budget at a level, best first.

    held_out: accuracy of choosing in this cell, measured on problems that did not choose (two-fold
        cross-validation, Snell et al. 2024, sec. 3.2); None where a fold had too few problems.
    """

    level: Annotated[int, Field(ge=1)]
    budget: Annotated[int, Field(ge=1)]
    entries: Annotated[tuple[Entry, ...], Field(min_length=1)]
    held_out: Estimate | None


class Table(_TableRecord):
    """All cells, level by level and budget by budget.

    generation: mean cost of one plain sample of the first model at each level; unit of budgets in
        tokens or FLOPs.
    members: the models of a fleet, the first one first; none where there is only one.
    """

    schema_version: Literal[1] = SCHEMA
    cost: CostUnit
    levels: Annotated[int, Field(ge=1)]
    budgets: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    generation: tuple[Cost, ...]
    cells: tuple[Cell, ...]
    members: tuple[FittedModel, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if any(a >= b for a, b in pairwise(self.budgets)):
            raise ValueError(f"budgets must rise, not {list(self.budgets)}")
        if len(self.generation) != self.levels:
            raise ValueError(f"generation needs one cost for each of {self.levels} levels")
        expected = [(lv, b) for lv in range(1, self.levels + 1) for b in self.budgets]
        found = [(cell.level, cell.budget) for cell in self.cells]
        if found != expected:
            wrong = next((pair for pair in expected if pair not in found), None)
            what = f"no cell for level {wrong[0]}, budget {wrong[1]}" if wrong else "cells twice"
            raise ValueError(f"cells must hold every level and budget once, in order: {what}")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for number, cell in enumerate(self.cells):
            for entry in cell.entries:
                most = max(cost_of(entry.strategy, self.fleet), entry.cost.generations)
                if most > cell.budget + _SLACK:
                    raise ValueError(
                        f"cells.{number}: {entry.strategy} costs {most:g} generations, over the"
                        f" cell's budget of {cell.budget}"
                    )
        return self

    @property
    def costs(self) -> dict[str, float]:
        """What a sample of each model of a fleet costs, by its name."""
        return {member.name: member.cost for member in self.members}

    @property
    def fleet(self) -> Fleet:
        """On what terms it asks each model."""
        return fleet_of(self.members)

    @classmethod
    def from_dict(cls, record: Any, name: str = "table") -> Table:
        """Read what `to_dict` wrote.

        Raises:
            InputError: nonsense; the message gives the path of the first bad field.
        """
        if isinstance(record, dict) and record.get("schema_version") != SCHEMA:
            raise InputError(
                f"{name} has schema {record.get('schema_version')!r}, and this version reads"
                f" {SCHEMA}; refit it with `router fit`"
            )
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top"
            raise InputError(f"{name}: {where}: {first['msg']}") from None

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a table's JSON file.

        Raises:
            InputError: it cannot be read, or is no table.
        """
        try:
            record = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read table {path}: {error}") from None
        return cls.from_dict(record, str(path))

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def cell(self, level: int, budget: int) -> Cell:
        """The cell of the largest fitted budget that fits.

        Raises:
            InputError: a level that the table does not have, or a budget below the first.
        """
        if not 1 <= level <= self.levels:
            raise InputError(f"the table has levels 1 to {self.levels}, not {level}")
        fitted = [b for b in self.budgets if b <= budget]
        if not fitted:
            raise InputError(
                f"the table begins at budget {self.budgets[0]}, so it cannot answer for {budget};"
                f" raise the budget, or refit with --budgets {budget},…"
            )
        row = (level - 1) * len(self.budgets)
        return self.cells[row + len(fitted) - 1]

    def best(self, level: int, budget: int) -> Entry:
        """The configuration that wins at one level, in the table's own unit of cost."""
        one_hot = [float(number == level) for number in range(1, self.levels + 1)]
        winner = self.choose(one_hot, budget).strategy
        return next(e for e in self.cell(level, budget).entries if e.strategy == winner)

    def choose(
        self,
        levels: Sequence[float],
        budget: int,
        *,
        tolerance: float = 0.0,
        price: float = 0.0,
        cost: CostUnit | None = None,
        drawn: int = 0,
        own_temperature: bool = True,
    ) -> Decision:
        """The configuration with the best expected accuracy that costs no more than the budget.

        levels: P(level), level 1 first, shape (levels,).
        tolerance: take the cheapest within this much accuracy of the best.
        price: what one generation more must add to the accuracy, on average (lambda): the best is
            then what maximises accuracy - price * mean cost.
        cost: the unit in which configurations are compared with the budget and each other; the
            table's own by default. Generations never exceed the budget in any unit.
        drawn: plain samples that this budget has paid for already. Strategies that sample whole
            solutions take them as their own; others cost as much on top of them.
        own_temperature: whether configurations that set a temperature of their own count; not
            where the caller asks for one.

        Raises:
            InputError: no probabilities, a budget below the table's first, a unit that was not
                measured, or nothing that fits.
        """
        unit = cost or self.cost
        weights = self._weights(levels)
        rows = self._rows(weights, budget, unit, drawn, own_temperature)
        if not rows:
            free = "" if own_temperature else " and leaves the temperature to the caller"
            raise InputError(
                f"no configuration of the table costs at most {budget} in units of {unit}{free}"
            )
        # Rounded, so that of equal ones the cheapest is taken.
        rows.sort(key=lambda r: (round(price * r.price - r.accuracy, 9), r.price, r.order))
        best = rows[0]
        within = [row for row in rows if row.accuracy >= best.accuracy - tolerance - _SLACK]
        winner = min(within, key=lambda row: (row.price, row.order)) if tolerance > 0 else best
        others = [row for row in rows if row is not winner]
        return Decision(
            winner.considered.strategy,
            tuple(weights),
            winner.accuracy,
            expected_cost=winner.considered.expected_cost,
            why=_why(winner, best, len(rows), budget, unit, tolerance, price),
            considered=tuple(row.considered for row in [winner, *others]),
        )

    def curves(
        self, budget: int, cost: CostUnit | None = None
    ) -> tuple[tuple[Strategy, ...], Floats, Floats]:
        """Accuracy against mean cost of every configuration of a budget that all levels know.

        Returns:
            the configurations; accuracy and cost, both of shape (levels, configurations).

        Raises:
            InputError: as `choose`.
        """
        unit = cost or self.cost
        one_hot = np.eye(self.levels).tolist()
        rows = [
            {row.considered.strategy: row for row in self._rows(w, budget, unit, 0, True)}
            for w in one_hot
        ]
        known = tuple(s for s in rows[0] if all(s in level for level in rows))
        shape = (self.levels, len(known))
        accuracy = np.array([[level[s].accuracy for s in known] for level in rows])
        spent = np.array([[level[s].price for s in known] for level in rows])
        return known, accuracy.reshape(shape), spent.reshape(shape)

    def _weights(self, levels: Sequence[float]) -> list[float]:
        total = sum(levels)
        if len(levels) != self.levels or not all(p >= 0 for p in levels) or not total > 0:
            raise InputError(
                f"P(level) must be {self.levels} probabilities, not {[round(p, 4) for p in levels]}"
            )
        return [p / total for p in levels]

    def _rows(
        self,
        weights: Sequence[float],
        budget: int,
        unit: CostUnit,
        drawn: int,
        own_temperature: bool,
    ) -> list[_Row]:
        """What every configuration of the budget's cells is worth, over the levels."""
        present = [(w, self.cell(i, budget)) for i, w in enumerate(weights, 1) if w > 0]
        by_name = [{entry.strategy: entry for entry in cell.entries} for _, cell in present]
        shares = [w for w, _ in present]
        scale = 1.0
        if unit != "generations":
            costs = [getattr(self.generation[cell.level - 1], unit) for _, cell in present]
            if None in costs:
                raise InputError(f"{unit} were not measured, so the table cannot count in them")
            scale = sum(w * c for w, c in zip(shares, costs, strict=True))
        rows, fleet = [], self.fleet
        for order, name in enumerate(by_name[0]):
            entries = [names[name] for names in by_name if name in names]
            prices = [getattr(entry.cost, unit) for entry in entries]
            if len(entries) < len(by_name) or None in prices:
                continue
            strategy = entries[0].strategy
            parts = () if own_temperature else strategy.parts()
            if any(part.temperature is not None for part, _ in parts):
                continue
            extra = drawn if drawn and not strategy.takes_samples else 0
            most = cost_of(strategy, fleet) + extra
            row = _Row.mixed(order, entries, shares, prices, scale, extra, most)
            if max(most, row.price) <= budget + _SLACK:
                rows.append(row)
        return rows


@dataclass(frozen=True, slots=True)
class _Row:
    """One configuration over the levels. price: its cost in units of one plain sample."""

    order: int
    accuracy: float
    price: float
    considered: Considered

    @classmethod
    def mixed(
        cls,
        order: int,
        entries: Sequence[Entry],
        shares: Sequence[float],
        prices: Sequence[float],
        scale: float,
        extra: int,
        most: float,
    ) -> _Row:
        def mean(values: Sequence[float]) -> float:
            return sum(w * v for w, v in zip(shares, values, strict=True))

        accuracy = mean([entry.estimate.accuracy for entry in entries])
        # Levels were estimated on different problems; adding their half-widths is on the safe side.
        low = mean([entry.estimate.low for entry in entries])
        high = mean([entry.estimate.high for entry in entries])
        strategy, price = entries[0].strategy, mean(prices) / scale + extra
        spent = mean([entry.cost.generations for entry in entries]) + extra
        considered = Considered(strategy, most, accuracy, (low, high), spent)
        return cls(order, accuracy, price, considered)


def _why(
    winner: _Row,
    best: _Row,
    count: int,
    budget: int,
    unit: CostUnit,
    tolerance: float,
    price: float,
) -> str:
    among = f"of {count} configurations that cost at most {budget} ({unit})"
    if price > 0:
        return (
            f"best {among} where one generation more must add {100 * price:.2g} points of accuracy:"
            f" {winner.price:.1f} of them on average"
        )
    if winner is best:
        return f"best expected accuracy {among}"
    return (
        f"cheapest {among} within {tolerance:g} of the best expected accuracy,"
        f" {best.accuracy:.3f} by {best.considered.strategy}"
    )
