"""What an operator decides about the service; limits hold for each process."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.core import DEFAULT_BUDGET
from router.models.errors import InputError
from router.service.keys import ApiKeys
from router.strategies.budget import Budget


@dataclass(frozen=True)
class Settings:
    """How the service treats its clients.

    keys: who may use it; none leaves it open, which only suits a loopback address.
    budget: generations of a request that names no budget; max_budget: the most it may ask for.
    deadline: seconds that a request may take, waiting included; what is found by then answers.
    running: searches at once; generations: what their budgets may come to together; waiting:
        further searches that queue up for them.
    key_share: the most that one key may hold of each of these, where there are several keys.
    body: bytes of a request's body.
    log_prompts: whether problems and answers are logged.

    Raises:
        InputError: a limit that is not positive, or a default budget over the largest.
    """

    keys: ApiKeys = field(default_factory=ApiKeys)
    budget: int = DEFAULT_BUDGET
    max_budget: int = 256
    deadline: float = 600.0
    running: int = 64
    generations: int = 1024
    waiting: int = 256
    key_share: float = 0.5
    body: int = 1 << 20
    log_prompts: bool = False

    def __post_init__(self) -> None:
        Budget(self.budget)
        Budget(self.max_budget, seconds=self.deadline)
        for name in ("running", "generations", "body"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.key_share <= 1:
            raise InputError(f"a key's share must lie between 0 and 1, not {self.key_share}")
        if self.budget > self.max_budget:
            raise InputError(
                f"the default budget {self.budget} is over the largest one, {self.max_budget}"
            )
