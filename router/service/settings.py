"""What an operator decides about the service; limits hold for each process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from router.core import DEFAULT_BUDGET
from router.models.errors import InputError
from router.service.keys import ApiKeys
from router.strategies.budget import Budget

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""What OpenAI's clients send as `reasoning_effort`."""

EFFORTS: Final[Mapping[Effort, int]] = {
    "none": 1,
    "minimal": 1,
    "low": 4,
    "medium": 16,
    "high": 64,
    "xhigh": 256,
    "max": 256,
}


@dataclass(frozen=True)
class Settings:
    """How the service treats its clients.

    keys: who may use it; none leaves it open, which only suits a loopback address.
    budget: generations of a request that names no budget; max_budget: the most it may ask for.
    efforts: the budgets of `reasoning_effort`, capped by what may be asked for.
    origins: web pages of other origins that may call the service, as `https://host`; `*` is all.
    deadline: seconds that a request may take, waiting included; what is found by then answers.
    running: searches at once; generations: what their budgets may come to together; waiting:
        further searches that queue up for them.
    key_share: the most that one key may hold of each of these, where there are several keys.
    key_requests, key_generations: what one key may ask for in a minute.
    average_per_key: whether the router's average is held for each key by itself, so that nobody's
        hard problems are paid for by others.
    body: bytes of a request's body.
    log_prompts: whether problems and answers are logged.

    Raises:
        InputError: a limit that is not positive, a default budget over the largest, an effort that
            no client sends, or what is no origin.
    """

    keys: ApiKeys = field(default_factory=ApiKeys)
    budget: int = DEFAULT_BUDGET
    max_budget: int = 256
    efforts: Mapping[Effort, int] = field(default_factory=lambda: EFFORTS)
    origins: tuple[str, ...] = ()
    deadline: float = 600.0
    running: int = 64
    generations: int = 1024
    waiting: int = 256
    key_share: float = 0.5
    key_requests: int = 1200
    key_generations: int = 20_000
    average_per_key: bool = False
    body: int = 1 << 20
    log_prompts: bool = False

    def __post_init__(self) -> None:
        Budget(self.budget)
        Budget(self.max_budget, seconds=self.deadline)
        for name in ("running", "generations", "key_requests", "body"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.key_share <= 1:
            raise InputError(f"a key's share must lie between 0 and 1, not {self.key_share}")
        if self.budget > self.max_budget:
            raise InputError(
                f"the default budget {self.budget} is over the largest one, {self.max_budget}"
            )
        if self.max_budget > self.key_generations:
            raise InputError(
                f"a budget of {self.max_budget}, the largest, is over what a key may ask for in a"
                f" minute, {self.key_generations} generations"
            )
        for effort, budget in self.efforts.items():
            if effort not in get_args(Effort):
                known = ", ".join(get_args(Effort))
                raise InputError(f"no effort is called {effort!r}; clients send {known}")
            Budget(budget)
        for origin in self.origins:
            _check_origin(origin)


def efforts_of(texts: Sequence[str]) -> Mapping[Effort, int]:
    """Budgets of efforts, written `NAME=N`; those that are not named stay as they are.

    Raises:
        InputError: one is not written so.
    """
    efforts: dict[Any, int] = dict(EFFORTS)
    for text in texts:
        name, _, budget = text.partition("=")
        if not budget.strip().isdecimal():
            raise InputError(f"--effort {text}: write NAME=N, as in low=4")
        efforts[name.strip()] = int(budget)
    return efforts


def _check_origin(origin: str) -> None:
    """Raise an InputError for what browsers never send as an origin (RFC 6454, sec. 6.2)."""
    if origin in ("*", "null"):
        return
    try:
        parts = urlsplit(origin)
        whole = parts.hostname and f"{parts.scheme}://{parts.netloc}" == origin == origin.lower()
    except ValueError:
        whole = False
    if not whole or "@" in origin:
        raise InputError(
            f"{origin!r} is no origin; write one as https://example.org, with its port if any, or *"
        )
