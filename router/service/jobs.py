"""From a chat request to what is to be searched, within what the service and the key allow."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.models.errors import InputError
from router.models.prompts import get_prompt
from router.models.types import Problem, Sampling
from router.opening import Models
from router.service.conversation import problem_of
from router.service.errors import ServiceError
from router.service.keys import Client
from router.service.protocol import ChatRequest
from router.service.settings import Settings
from router.strategies.budget import Budget
from router.strategies.tasks import get_task

_STEP = 4
"""Each budget that is listed as a model is so many times the one before."""


@dataclass(frozen=True, slots=True)
class Job:
    """One search.

    key: of who asks for it, as in `Client`.
    give_up_at: when its deadline passes, in `time.monotonic` seconds.
    """

    key: str | None
    problem: Problem
    generations: int
    strategy: str
    tolerance: float
    sampling: Sampling
    seed: int | None
    token_cap: int | None
    give_up_at: float

    def budget(self) -> Budget:
        """What is left to spend now; some time always is, so that the search says that it ended."""
        seconds = max(0.001, self.give_up_at - time.monotonic())
        return Budget(self.generations, self.token_cap, seconds)


def task_id(asked: str, field: str) -> str:
    """The id of a task that was asked for in a field of a body.

    Raises:
        ServiceError: there is no such task.
    """
    try:
        return get_task(asked).id
    except InputError as error:
        raise ServiceError(400, str(error), "invalid_value", field) from None


@dataclass(frozen=True)
class Desk:
    """Takes requests on behalf of one router's settings. sampling: the router's own."""

    settings: Settings
    sampling: Sampling

    def job(self, request: ChatRequest, header: int | None, client: Client, models: Models) -> Job:
        """What a chat request asks for. header: its `x-router-budget`.

        Raises:
            ServiceError: 404 for another model, 400 for what cannot be honoured.
        """
        request.check()
        options = request.router
        suffix = self.suffix(request.model, models.generator.info.model)
        own_system = get_prompt(models.generator.info.prompt).system
        seconds = min(options.deadline or self.settings.deadline, self.settings.deadline)
        return Job(
            key=client.key,
            problem=replace(
                problem_of(request.messages, own_system), task=task_id(options.task, "router.task")
            ),
            generations=self.budget((options.budget, header, suffix), client),
            strategy=options.strategy,
            tolerance=options.tolerance,
            sampling=self._sampling(request),
            seed=request.seed,
            token_cap=options.token_cap,
            give_up_at=time.monotonic() + seconds,
        )

    def _sampling(self, request: ChatRequest) -> Sampling:
        """The router's own settings, but for what the request names."""
        usual, stop = self.sampling, request.stop
        return replace(
            usual,
            temperature=usual.temperature if request.temperature is None else request.temperature,
            top_p=request.top_p or usual.top_p,
            max_tokens=request.max_completion_tokens or request.max_tokens or usual.max_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or usual.stop),
        )

    def most(self, client: Client) -> int:
        """The largest budget that a client may ask for."""
        return min(self.settings.max_budget, client.max_budget or self.settings.max_budget)

    def budget(self, asked: Sequence[int | None], client: Client) -> int:
        """The first budget that was asked for, else the service's own.

        Raises:
            ServiceError: it is over what the service or the key allows.
        """
        most = self.most(client)
        budget = next((value for value in asked if value is not None), None)
        if budget is None:
            return min(self.settings.budget, most)
        if not 1 <= budget <= most:
            raise ServiceError(
                400,
                f"a budget of {budget} generations is not within 1 to {most}",
                "budget_not_allowed",
                "router.budget",
            )
        return budget

    def suffix(self, asked: str, served: str) -> int | None:
        """The budget N of a model named `NAME@N`; None for plain `NAME`.

        Raises:
            ServiceError: another model.
        """
        found = re.fullmatch(re.escape(served) + r"(?:@([1-9]\d{0,5}))?", asked)
        if found is None:
            raise ServiceError(
                404,
                f"the model {asked[:200]!r} does not exist; this server has {served!r}, or"
                f" {served + '@N'!r} for a budget of N generations",
                "model_not_found",
                "model",
            )
        return int(found[1]) if found[1] else None

    def names(self, served: str) -> list[str]:
        """The model, and its variants by budget."""
        budgets, budget = [], 1
        while budget <= self.settings.max_budget:
            budgets.append(budget)
            budget *= _STEP
        return [served, *(f"{served}@{budget}" for budget in budgets)]
