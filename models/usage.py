"""What was spent: one record of it, one way to add it up, and one rule for FLOPs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from router.models.errors import InputError
from router.models.types import Sampled, Scored

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Usage:
    """What engines really did, work of cancelled and failed calls included.

    What an engine does not report is None, never 0. verifier_seconds is summed over the
    verifier's calls, which overlap; None in records of before it was measured.

    generations: of the only model, or in units of one plain sample of the first.
    money: of tokens read and sampled, at their models' prices; None where one has none.
    lower_bound: more was done than this: an engine did not say what a call that was cancelled or
        that failed had done until then.
    models: what each model of a fleet did, by its name, its generations its own; empty where there
        is only one.
    """

    generations: float = 0
    sampled_tokens: int | None = 0
    prompt_tokens: int | None = 0
    prompt_tokens_cached: int | None = 0
    verifier_tokens: int | None = 0
    verifier_seconds: float | None = 0.0
    flops: float | None = 0.0
    seconds: float = 0.0
    money: float | None = 0.0
    lower_bound: bool = False
    models: Mapping[str, Usage] = field(default_factory=dict)

    @classmethod
    def of_sampling(cls, sampled: Sampled, parameters: int | None) -> Usage:
        """Of one call to a generator. parameters: its weights that multiply; None if unknown."""
        tokens = total(continuation.tokens for continuation in sampled.continuations)
        return cls.of_generator(tokens, sampled.prompt_tokens, sampled.cached_tokens, parameters)

    @classmethod
    def of_generator(
        cls,
        sampled_tokens: int | None,
        prompt_tokens: int | None,
        cached_tokens: int | None,
        parameters: int | None,
    ) -> Usage:
        """Of tokens that a generator sampled and read."""
        cached = None if cached_tokens is None else -cached_tokens
        return cls(
            sampled_tokens=sampled_tokens,
            prompt_tokens=prompt_tokens,
            prompt_tokens_cached=cached_tokens,
            flops=flops(parameters, total([sampled_tokens, prompt_tokens, cached])),
        )

    @classmethod
    def of_scoring(cls, scored: Scored, seconds: float, parameters: int | None) -> Usage:
        """Of one call to a verifier that took so long."""
        return cls(
            verifier_tokens=scored.tokens,
            verifier_seconds=seconds,
            flops=flops(parameters, scored.tokens),
        )

    def __add__(self, other: Usage) -> Usage:
        numbers = [f.name for f in fields(self) if f.name not in ("lower_bound", "models")]
        both: dict[str, Any] = {
            name: total([getattr(self, name), getattr(other, name)]) for name in numbers
        }
        models = dict(self.models)
        for name, spent in other.models.items():
            models[name] = models[name] + spent if name in models else spent
        return Usage(**both, lower_bound=self.lower_bound or other.lower_bound, models=models)

    @property
    def prompt_tokens_computed(self) -> int | None:
        """Prompt tokens that no cache had."""
        if self.prompt_tokens is None or self.prompt_tokens_cached is None:
            return None
        return self.prompt_tokens - self.prompt_tokens_cached

    def to_dict(self) -> dict[str, Any]:
        record = {**asdict(self), "prompt_tokens_computed": self.prompt_tokens_computed}
        del record["models"]
        if self.models:
            record["models"] = {name: spent.to_dict() for name, spent in self.models.items()}
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Usage:
        later: dict[str, Any] = {
            "verifier_seconds": None,
            "money": None,
            "lower_bound": False,
            "models": {},
        }
        known = {**later, **record}
        known["models"] = {name: cls.from_dict(spent) for name, spent in known["models"].items()}
        return cls(**{f.name: known[f.name] for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens of a prompt, and of what is sampled; in any currency.

    Raises:
        InputError: they are no positive numbers, or no number at all.
    """

    prompt: float
    sampled: float

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < float("inf") and 0 < self.sampled < float("inf")):
            raise InputError(
                f"a price is money for a million tokens, over 0, not {self.prompt:g} for those of"
                f" a prompt and {self.sampled:g} for those sampled"
            )

    def of(self, spent: Usage) -> float | None:
        """What these tokens cost; None where their number is not known.

        A token of a prompt costs the same from a cache.
        """
        if spent.prompt_tokens is None or spent.sampled_tokens is None:
            return None
        return (self.prompt * spent.prompt_tokens + self.sampled * spent.sampled_tokens) / 1e6


def total(values: Iterable[Number | None]) -> Number | None:
    """Their sum; None if one of them is unknown."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def flops(parameters: int | None, tokens: int | None) -> float | None:
    """FLOPs of tokens that a model computed: two for each weight that multiplies, a token.

    Snell et al. 2024, sec. 7. Looking up a token's embedding multiplies nothing, so an input
    embedding that is no output head too is not among the parameters. No token costs nothing,
    whatever is known of the model.
    """
    if tokens == 0:
        return 0.0
    return None if parameters is None or tokens is None else 2.0 * parameters * tokens
