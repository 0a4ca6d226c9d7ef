"""What an evaluation found, as a JSON file that tells where its numbers come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.difficulty.validation import Validation
from router.intervals import Figure
from router.models.errors import InputError
from router.strategies.base import Strategy
from router.table import Configuration

SCHEMA: Final = 2

Share = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Point(_Record):
    """What one policy or strategy reaches at one budget, as means over the problems.

    generations, tokens, flops: really spent; None where an engine did not report them.
    coverage: how often some candidate is right, which a perfect selection would reach.
    levels: accuracy at each true level, level 1 first; None where no problem has it.
    choices: share of the problems that each configuration was chosen for.
    """

    budget: Annotated[int, Field(ge=1)]
    accuracy: Figure
    coverage: Figure
    generations: float
    tokens: float | None
    flops: float | None
    levels: tuple[Figure | None, ...]
    choices: dict[Configuration, Share]


class Curve(_Record):
    """One policy (`learned`, `pilot`, `oracle`) or fixed strategy over the budgets that it fits."""

    name: str
    routed: bool
    points: Annotated[tuple[Point, ...], Field(min_length=1)]

    def at(self, budget: int) -> Point | None:
        """The point at this budget, if there is one."""
        return next((point for point in self.points if point.budget == budget), None)

    @property
    def strategies(self) -> set[Strategy]:
        """Every configuration that some problem got."""
        return {strategy for point in self.points for strategy in point.choices}


class Gain(_Record):
    """Accuracy of a policy minus that of a fixed strategy at the same budget, paired."""

    policy: str
    strategy: str
    budget: int
    gain: Figure


class Bounded(_Record):
    """A value and its 95 % interval; None lies beyond what was measured."""

    value: float | None
    low: float | None
    high: float | None


class Equal(_Record):
    """What the baseline needs for the accuracy of a policy, and reaches at its cost.

    budget: what one problem may cost. average: what all may cost on average; None where each may
        cost its budget. spent: generations that they do cost on average.
    samples: smallest cost at which the baseline is as accurate, on the upper hull of its votes and
        nothing; None means more than the largest that was measured, in each of its three numbers.
    generations, tokens, flops: how many times as much the baseline spends there; None as above, or
        where the unit was not measured.
    gain: accuracy of the policy minus that of the baseline at the same mean number of generations.
    over_largest: the same against the baseline at its largest N.
    """

    policy: str
    budget: int
    average: float | None
    accuracy: Figure
    spent: float
    samples: Bounded
    generations: Bounded
    tokens: Bounded | None
    flops: Bounded | None
    gain: Figure
    over_largest: Figure


class LevelPair(_Record):
    """A level's choice at a budget against the one that is best for all levels together.

    gain: difference in accuracy on the evaluated problems of the level, paired.
    """

    level: int
    budget: int
    chosen: Configuration
    for_all: Configuration
    problems: int
    gain: Figure


class Regret(_Record):
    """Accuracy that a policy loses at a budget, by the part that loses it.

    selection: to a perfect selection among the candidates that it found.
    difficulty: to the same table with true levels. table: from there to the configuration of each
        level that is best in hindsight. routing: both together. Hindsight chooses and measures on
        the same problems, so `table` is on the high side.
    """

    policy: str
    budget: int
    selection: Figure
    difficulty: Figure
    table: Figure
    routing: Figure


class Difficulty(_Record):
    """How well a policy's difficulty holds on these problems.

    spearman: rank correlation of its expected level with pass@1, sign turned.
    """

    policy: str
    spearman: Figure
    validation: Validation


class Alone(_Record):
    """One model alone, with the search that is best by the fit at a cost.

    gain: its accuracy minus that of the first model, paired.
    """

    model: str
    strategy: Configuration
    accuracy: Figure
    gain: Figure


class Versus(_Record):
    """The models of a fleet at equal cost, the first one first; those that cost more are missing.

    budget: in plain samples of the first, by FLOPs where they were measured. level: None is all.
    """

    budget: int
    level: int | None
    models: Annotated[tuple[Alone, ...], Field(min_length=1)]


class Rollouts(_Record):
    """Generations behind the numbers: those that were stored before, and those sampled for it."""

    store: str
    replayed: int
    sampled: int


class Provenance(_Record):
    """Where an evaluation comes from.

    bundle, problems: sha256 of their content.
    """

    command: str
    created: str
    package_version: str | None
    commit: str | None
    seed: int
    bundle: str
    bundle_problems: int
    problems: str
    rollouts: Rollouts
    model: str
    verifier: str | None


class Evaluation(_Record):
    """Routed and fixed strategies on the same problems, with paired 95 % intervals.

    problems, left_out: how many were measured, and how many the rollouts do not cover.
    tolerance: accuracy that the policies might give up for a cheaper search.
    level_sizes: problems of each true level, level 1 first.
    baseline: the curve that compute is compared with: of each N the vote that the fit thinks best.
    fits: resamples of the fit that the intervals of `equal` cover; 0: of the problems only.
    pairs: where a level's choice is another than the one for all.
    pass_at_1: of one sample, over all samples. versus: the models of a fleet; else empty.
    notes: what a reader must know, one sentence each.
    """

    schema_version: Literal[2] = SCHEMA
    problems: Annotated[int, Field(ge=2)]
    left_out: int
    budgets: tuple[int, ...]
    tolerance: Share = 0.0
    level_sizes: tuple[int, ...]
    pass_at_1: Figure
    baseline: str
    fits: int
    curves: tuple[Curve, ...]
    gains: tuple[Gain, ...]
    equal: tuple[Equal, ...]
    pairs: tuple[LevelPair, ...]
    regret: tuple[Regret, ...]
    difficulty: tuple[Difficulty, ...]
    versus: tuple[Versus, ...] = ()
    notes: tuple[str, ...]
    provenance: Provenance

    def curve(self, name: str) -> Curve:
        """The curve of that policy or strategy.

        Raises:
            KeyError: it was not measured.
        """
        for curve in self.curves:
            if curve.name == name:
                return curve
        raise KeyError(name)

    @property
    def baseline_curve(self) -> tuple[Point, ...]:
        return self.curve(self.baseline).points

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(curve.name for curve in self.curves if curve.routed)

    @property
    def headline_budget(self) -> int:
        """8, where the field compares at this scale, or else the largest."""
        return 8 if 8 in self.budgets else self.budgets[-1]

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            InputError: it cannot be written.
        """
        try:
            path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None

    @classmethod
    def from_dict(cls, record: Any, name: str = "evaluation") -> Evaluation:
        """Read what `to_dict` wrote.

        Raises:
            InputError: it is none, or of another schema.
        """
        if isinstance(record, dict) and record.get("schema_version") != SCHEMA:
            raise InputError(
                f"{name} has schema {record.get('schema_version')!r}, and this version reads"
                f" {SCHEMA}; evaluate again with `router evaluate --from-rollouts`"
            )
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top"
            raise InputError(f"{name} is no evaluation: {where}: {first['msg']}") from None

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read an evaluation's JSON file.

        Raises:
            InputError: it cannot be read, or is no evaluation.
        """
        try:
            record = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read evaluation {path}: {error}") from None
        return cls.from_dict(record, str(path))
