"""N independent samples of the whole solution, at once or until the vote is over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from router.models.errors import InputError
from router.models.types import Chain, Problem
from router.strategies.base import SELECTIONS, UNSCORED, Candidate, Strategy
from router.strategies.budget import MAX_GENERATIONS
from router.strategies.scoring import candidates
from router.strategies.search import Search
from router.strategies.stopping import Stopping
from router.strategies.voting import poll

Phase = tuple[float | None, int | None]
"""A temperature (None: the caller's own), and how many samples it is for (None: the others)."""

_PHASE: Final = re.compile(r"\s*(\d*\.?\d+)\s*(?::\s*(\d{1,9}))?\s*")


@dataclass(frozen=True)
class BestOfN(Strategy):
    """Best-of-N: majority (self-consistency, Wang et al. 2022), best, weighted or confident.

    Weighted sums the scores of equal answers (Li et al. 2022; Snell et al. 2024, App. E). Only
    `best` and `weighted` need a verifier.

    temperatures: of the first samples, as in `0.3:4, 0.8`: four at 0.3, the others at 0.8. Without
        a last one that has no count, the others are sampled as the caller samples.
    lead, give_up, worth: make it anytime: samples come in waves, and none comes after the vote is
        over, as `stopping.Stopping` says. N is then what it costs at most.
    """

    name: ClassVar[str] = "best_of_n"

    temperatures: str | None = None
    lead: float | None = None
    give_up: float | None = None
    worth: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("lead", MAX_GENERATIONS)
        self._check_number("give_up", 1)
        self._check_number("worth", 1)
        if self.select == "best" and (self.anytime or self.temperatures is not None):
            raise InputError(
                f"{self.name}: lead, give_up, worth and temperatures are for votes, and select=best"
                " is none; take weighted, majority or confident"
            )
        if self.temperatures is not None:
            self._read_temperatures(self.temperatures)
        if self.n == 1:  # there is nothing to stop
            for rule in ("lead", "give_up", "worth"):
                object.__setattr__(self, rule, None)

    def _read_temperatures(self, text: str) -> None:
        """Equal schedules are equal strategies, however they are written."""
        if self.temperature is not None:
            raise InputError(f"{self.name}: give temperature or temperatures, not both")
        first, *others = read_schedule(text)
        if first[1] is None or first[1] >= self.n:
            object.__setattr__(self, "temperature", first[0])
            object.__setattr__(self, "temperatures", None)
            return
        named = [_phase(*phase) for phase in (first, *others) if phase[0] is not None]
        object.__setattr__(self, "temperatures", ", ".join(named))

    @property
    def needs_verifier(self) -> bool:
        return self.select not in UNSCORED

    @property
    def takes_samples(self) -> bool:
        # Else they are samples of another distribution.
        own = (self.temperature, self.temperatures, self.model)
        return all(value is None for value in own)

    @property
    def anytime(self) -> bool:
        """Whether it may end before its N samples are drawn."""
        return any(rule is not None for rule in (self.lead, self.give_up, self.worth))

    @property
    def stopping(self) -> Stopping | None:
        if not self.anytime:
            return None
        return Stopping(self.n, self.lead, self.give_up, self.worth, self.select)

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        chains: list[Chain] = []
        waves = (self.n,) if self.stopping is None else self.stopping.waves
        for before, drawn in pairwise((0, *waves)):
            chains += await self._draw(search, before, drawn)
            found = await candidates(search, chains, scored=self.needs_verifier)
            # At temperature 0 one sample stands for all that would follow.
            equal = search.greedy and self._phases(before, drawn)[-1][0] == self.temperature
            if equal or await self._over(search, found):
                break
        return found

    async def _draw(self, search: Search, before: int, drawn: int) -> list[Chain]:
        """The samples of one wave."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    search.sample(search.root, count, whole=True, temperature=temperature)
                )
                for temperature, count in self._phases(before, drawn)
            ]
        return [chain for task in tasks for chain in task.result()]

    async def _over(self, search: Search, found: Sequence[Candidate]) -> bool:
        """Whether the vote so far decides."""
        if self.stopping is None or len(found) == self.n:
            return True
        votes = await poll(self, search, found)
        return bool(self.stopping.ends(votes, len(found)))

    def parts(self) -> tuple[tuple[BestOfN, int], ...]:
        """Of each temperature, in the order in which they are drawn."""
        return tuple(
            (BestOfN(1, temperature=own, model=self.model), n) for own, n in self._phases(0, self.n)
        )

    def _phases(self, before: int, drawn: int) -> list[tuple[float | None, int]]:
        """Temperatures of the samples from `before` to `drawn`, and how many of each."""
        if self.temperatures is None:
            return [(self.temperature, drawn - before)]
        found, start = [], 0
        for temperature, count in read_schedule(self.temperatures):
            end = drawn if count is None else min(drawn, start + count)
            if end > max(start, before):
                found.append((temperature, end - max(start, before)))
            start = end
        return found

    def _said(self, *, sized: bool) -> str:
        if not sized:
            return SELECTIONS[self.select]
        if self.n == 1:
            return "one sample"
        if self.select == "best":
            return f"best of {self.n} by score"
        return f"{SELECTIONS[self.select]} of {self.n}"

    def _details(self) -> Iterator[str]:
        named = SELECTIONS[self.select]  # already; and of one sample nothing is selected
        for text in super()._details():
            if text != named and self.n > 1:
                yield f"until one more is {text} at most" if text.startswith("worth ") else text


def read_schedule(text: str) -> list[Phase]:
    """The phases of samples, of which the last has no count.

    Raises:
        InputError: it is not written so.
    """
    parts = text.split(",") if isinstance(text, str) else []
    found = [match for part in parts if (match := _PHASE.fullmatch(part))]
    phases: list[Phase] = [(float(m[1]), None if m[2] is None else int(m[2])) for m in found]
    counted = all(count is not None for _, count in phases[:-1])
    sound = all(float(m[1]) <= 2 and m[2] != "0" for m in found)
    if not phases or len(found) < len(parts) or not counted or not sound:
        raise InputError(
            f"cannot read temperatures {text!r}; write how many samples each is for, as in"
            ' "0.3:4, 0.8": four at 0.3, the others at 0.8'
        )
    if any(temperature == 0 and count != 1 for temperature, count in phases):
        raise InputError(f"temperatures {text!r}: at 0 all samples are equal, so write 0:1 for it")
    return phases if phases[-1][1] is None else [*phases, (None, None)]


def _phase(temperature: float | None, count: int | None) -> str:
    return f"{temperature:g}" if count is None else f"{temperature:g}:{count}"
