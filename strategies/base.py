"""What a strategy is, and how one is written as text: `beam_search(n=16, width=4)`."""

from __future__ import annotations

import ast
import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.types import Path, Problem
from router.strategies.search import Search

Select = Literal["majority", "best", "weighted"]
"""How candidates become one answer: see `strategies.selection`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished path, its step scores where they are known, and the answer that it gives."""

    path: Path
    scores: tuple[float, ...] | None = None
    answer: str | None = None

    @property
    def text(self) -> str:
        return self.path.text


@dataclass(frozen=True)
class Strategy(ABC):
    """Hyperparameters of one way to spend compute. Pure: it sees only the search context.

    n: solutions in parallel.
    select: how the driver turns candidates into one answer.
    aggregate: how step scores become one score; None takes the verifier's own default.
    temperature: of sampling, from 0 to 2; None takes the caller's own.
    """

    name: ClassVar[str]

    n: int
    select: Select = "weighted"
    aggregate: Aggregation | None = None
    temperature: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"{self.name}: {f.name} must be a whole number, not {value!r}")
            if f.type == "int" and value < 1:
                raise InputError(f"{self.name}: {f.name} must be at least 1, not {value}")
        if self.select not in get_args(Select):
            raise InputError(
                f"{self.name}: select must be one of {', '.join(get_args(Select))},"
                f" not {self.select!r}"
            )
        if self.aggregate is not None and self.aggregate not in get_args(Aggregation):
            raise InputError(
                f"{self.name}: aggregate must be one of {', '.join(get_args(Aggregation))},"
                f" not {self.aggregate!r}"
            )
        self._check_temperature()

    def _check_temperature(self) -> None:
        value = self.temperature
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
            raise InputError(
                f"{self.name}: temperature must lie between 0 and 2, not {self.temperature!r}"
            )

    @property
    def cost(self) -> int:
        """Most generations that it can spend."""
        return self.n

    @property
    def needs_verifier(self) -> bool:
        return True

    @property
    def scores_samples(self) -> bool:
        """It asks for the score of everything it samples, so scoring may begin at once."""
        return self.needs_verifier

    @property
    def takes_samples(self) -> bool:
        """Whole solutions that were sampled before it runs (`Search.kept`) are its own first."""
        return False

    @abstractmethod
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        """Search; return every finished path that may answer."""

    @classmethod
    @abstractmethod
    def within(cls, budget: int, params: dict[str, Any]) -> Strategy:
        """The largest configuration with these parameters that costs at most `budget`.

        Raises:
            InputError: none fits.
        """

    def __str__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if f.name == "n" or getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(shown)})"


def parse_strategy(
    text: str, registry: dict[str, type[Strategy]], budget: int | None = None
) -> Strategy:
    """Read `name` or `name(param=value, …)`.

    Without `n`, the largest configuration that costs at most `budget` is taken.

    Raises:
        InputError: malformed text, unknown name or parameter (with the nearest match), a bad
            value, or nothing that fits the budget.
    """
    name, params = _call_parts(text)
    if name not in registry:
        raise InputError(f"unknown strategy {name!r}{_nearest(name, list(registry))}")
    cls = registry[name]
    known = [f.name for f in fields(cls)]
    for key in params:
        if key not in known:
            raise InputError(f"{name} has no parameter {key!r}{_nearest(key, known)}")
    if "n" in params:
        return cls(**params)
    if budget is None:
        raise InputError(f"{name} needs n, as in {name}(n=16)")
    return cls.within(budget, params)


def _call_parts(text: str) -> tuple[str, dict[str, Any]]:
    malformed = InputError(
        f"cannot read strategy {text!r}; write it as name(param=value, …),"
        " for example beam_search(n=16, width=4)"
    )
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise malformed from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise malformed
    params: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise malformed
        if isinstance(keyword.value, ast.Name):
            params[keyword.arg] = keyword.value.id
            continue
        try:
            params[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            raise malformed from None
    return node.func.id, params


def _nearest(word: str, choices: list[str]) -> str:
    match = difflib.get_close_matches(word, choices, n=1)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; choose from {', '.join(sorted(choices))}"
