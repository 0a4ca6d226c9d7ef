"""From a request to what is to be searched, within what the service and the key allow."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.choosing import AUTO
from router.models.errors import InputError
from router.models.prompts import get_prompt
from router.models.types import Problem, Sampling
from router.opening import Models
from router.records import Solution
from router.service.answers import Reply
from router.service.conversation import problem_of
from router.service.errors import ServiceError
from router.service.keys import Client
from router.service.protocol import Ask
from router.service.settings import Effort, Settings
from router.service.structured import Form
from router.strategies.budget import Budget
from router.strategies.fleet import check
from router.strategies.registry import parse_strategy
from router.strategies.tasks import get_task

_STEP = 4
"""Each budget that is listed as a model is so many times the one before."""


@dataclass(frozen=True, slots=True)
class Job:
    """One search.

    key: of who asks for it, as in `Client`. field: of the body, that holds the problem.
    form: what its answer is put into, if anything.
    give_up_at: when its deadline passes, in `time.monotonic` seconds.
    """

    key: str | None
    problem: Problem
    field: str
    generations: int
    strategy: str
    tolerance: float
    sampling: Sampling
    seed: int | None
    token_cap: int | None
    give_up_at: float
    form: Form | None

    def answer(self, solution: Solution) -> Reply:
        """What the client is told of its solution."""
        return Reply.of(solution, self.generations, self.form)

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


def strategy(asked: str, budget: int, models: Models, field: str) -> str:
    """A strategy that was asked for in a field of a body, as it came.

    Raises:
        ServiceError: there is no such strategy, or it cannot run at this budget on these models.
    """
    try:
        if asked != AUTO:
            named = parse_strategy(asked, budget, models.fleet)
            verified = models.verifier is not None
            check(named, Budget(budget), has_verifier=verified, fleet=models.fleet)
    except InputError as error:
        raise ServiceError(400, str(error), "invalid_value", field) from None
    return asked


@dataclass(frozen=True)
class Desk:
    """Takes requests on behalf of one router's settings. sampling: the router's own."""

    settings: Settings
    sampling: Sampling

    def job(self, ask: Ask, header: int | None, client: Client, models: Models) -> Job:
        """What is to be searched. header: the request's `x-router-budget`.

        Raises:
            ServiceError: 404 for another model, 400 for what cannot be honoured.
        """
        options = ask.options
        suffix = self.suffix(ask.model, models.generator.info.model)
        own_system = get_prompt(models.generator.info.prompt).system
        seconds = min(options.deadline or self.settings.deadline, self.settings.deadline)
        generations = self.budget((options.budget, header, suffix), client, ask.effort)
        return Job(
            key=client.key,
            problem=replace(
                problem_of(ask.turns, own_system), task=task_id(options.task, "router.task")
            ),
            field=ask.turns[-1].field,
            generations=generations,
            strategy=strategy(options.strategy, generations, models, "router.strategy"),
            tolerance=options.tolerance,
            sampling=self._sampling(ask),
            seed=ask.seed,
            token_cap=options.token_cap,
            give_up_at=time.monotonic() + seconds,
            form=ask.form,
        )

    def _sampling(self, ask: Ask) -> Sampling:
        """The router's own settings, but for what the request names."""
        usual = self.sampling
        return replace(
            usual,
            temperature=usual.temperature if ask.temperature is None else ask.temperature,
            top_p=ask.top_p or usual.top_p,
            max_tokens=ask.max_tokens or usual.max_tokens,
            stop=ask.stop or usual.stop,
        )

    def most(self, client: Client) -> int:
        """The largest budget that a client may ask for."""
        return min(self.settings.max_budget, client.max_budget or self.settings.max_budget)

    def budget(
        self, asked: Sequence[int | None], client: Client, effort: Effort | None = None
    ) -> int:
        """The first budget that was asked for, else that of the effort, else the service's own.

        An effort gets what is allowed, where its budget is over that.

        Raises:
            ServiceError: it is over what the service or the key allows.
        """
        most = self.most(client)
        budget = next((value for value in asked if value is not None), None)
        if budget is None:
            usual = self.settings.budget
            return min(self.settings.efforts.get(effort, usual) if effort else usual, most)
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
