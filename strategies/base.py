"""What a strategy is. Its text form is read by `strategies.registry`."""

from __future__ import annotations

import keyword
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, get_args

from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.types import Chain, Problem, check_sampling
from router.strategies.fleet import check_name
from router.strategies.search import Search
from router.strategies.stopping import Stopping

Select = Literal["majority", "best", "weighted", "confident"]
"""How candidates become one answer: see `strategies.selection`."""

SELECTIONS: Final[dict[Select, str]] = {
    "majority": "majority vote",
    "best": "best score",
    "weighted": "weighted vote",
    "confident": "vote weighted by confidence",
}
"""The same in words."""

UNSCORED: Final = frozenset({"majority", "confident"})
"""Selections that need no verifier."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished chain, its step scores where they are known, and the answer that it gives."""

    chain: Chain
    scores: tuple[float, ...] | None = None
    answer: str | None = None

    @property
    def text(self) -> str:
        return self.chain.text


@dataclass(frozen=True)
class Strategy(ABC):
    """Hyperparameters of one way to spend compute. Pure: it sees only the search context.

    n: solutions in parallel.
    select: how the driver turns candidates into one answer.
    aggregate: how step scores become one score; None takes the verifier's own default.
    temperature: of sampling, from 0 to 2; None takes the caller's own.
    model: name of the model that is asked; None is the first.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    """Its own name in words, not a parent's; empty where that is `name` without underscores."""

    n: int
    select: Select = "weighted"
    aggregate: Aggregation | None = None
    temperature: float | None = field(default=None, kw_only=True)
    model: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type not in ("int", int):  # text where annotations are postponed
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{self.name}: {f.name} must be a whole number, not {value!r}")
            if value < 1:
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
        try:
            check_sampling(self.temperature)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        if self.model is not None:
            check_name(self.model)

    def _check_number(self, name: str, most: float) -> None:
        """Refuse what is neither None nor a number from 0 to `most`."""
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= most):
            raise InputError(f"{self.name}: {name} must lie between 0 and {most}, not {value!r}")

    @property
    def cost(self) -> int:
        """Most generations that it can spend, whatever those of its model cost."""
        return self.n

    @property
    def stages(self) -> tuple[Strategy, ...]:
        """The searches of one model that it is made of, in their order."""
        return (self,)

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

    @property
    def stopping(self) -> Stopping | None:
        """When its vote is over; None where it always runs all its parts."""
        return None

    @abstractmethod
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        """Search; return every finished chain that may answer."""

    @classmethod
    def within(cls, budget: int, params: dict[str, Any]) -> Strategy:
        """The largest configuration with these parameters that costs at most `budget`.

        Raises:
            InputError: none fits.
        """
        one = cls(n=1, **params)
        if one.cost > budget:
            raise InputError(f"{one} needs {one.cost} generations, but the budget is {budget}")
        return cls(n=budget // one.cost, **params)

    def parts(self) -> tuple[tuple[Strategy, int], ...]:
        """Strategies, and how many independent runs of each make up this one; selection apart.

        So that rollouts of the parts serve every size of the whole.
        """
        return ((self, 1),)

    def to_dict(self) -> dict[str, Any]:
        """Its name, its text, its words and every parameter: nobody has to read the text."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        parameters = {
            name: value.to_dict() if isinstance(value, Strategy) else value
            for name, value in own.items()
        }
        return {"name": self.name, "text": str(self), "words": self.in_words(), **parameters}

    def in_words(self, *, sized: bool = True) -> str:
        """As a person would say it, on every page: `majority vote of 8 at T = 0.3`.

        sized: with `n`; without it, all sizes of one strategy are called the same.
        """
        return ", ".join([self._said(sized=sized) + self._where(), *self._details()])

    def _where(self) -> str:
        heat = "" if self.temperature is None else f" at T = {self.temperature:g}"
        return heat if self.model is None else f"{heat} on {self.model}"

    def _said(self, *, sized: bool) -> str:
        title = type(self).__dict__.get("title") or self.name.replace("_", " ")
        return f"{title} of {self.n}" if sized else title

    def _details(self) -> Iterator[str]:
        """What is not at its default, in words, but for `n`, temperature and model."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("n", "temperature", "model") or value == f.default:
                continue
            if f.name == "select":
                yield SELECTIONS[self.select]
            elif f.name == "aggregate":
                yield f"{value} of step scores"
            else:
                yield f"{f.name} {value}"

    @property
    def family(self) -> str:
        """Its text without `n`: what is the same at every budget."""
        shown = self._parameters()[1:]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self._parameters())})"

    def _parameters(self) -> list[str]:
        """`n`, and whatever is not at its default, as it is written."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = [f.name for f in fields(self) if f.name == "n" or own[f.name] != f.default]
        return [f"{name}={_written(own[name])}" for name in changed]


def _written(value: Any) -> str:
    """A parameter as `strategies.registry` reads it: one word, or a literal; 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)
    return str(value) if word or not isinstance(value, str) else f'"{value}"'
