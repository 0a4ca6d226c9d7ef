"""What a store holds, as measuring takes it: pools of answers, and what their units have cost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from router.fitting.costs import per_token, relative_costs
from router.fitting.estimates import Pool
from router.models.base import Aggregation
from router.rollouts.runs import Origin
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import Fleet
from router.strategies.selection import aggregate, confidence, voters
from router.strategies.tasks import Task, get_task

Floats = npt.NDArray[np.float64]

Weight = Aggregation | Literal["confidence"]
"""What a vote weighs: the verifier's score, aggregated so, or the generator's own confidence."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is run to know a strategy, or a part of it.

    configuration: the text under which its runs are stored; strategy: what is run, once a unit;
    count: units that make up the part.
    """

    configuration: str
    strategy: Strategy
    count: int


def units_of(strategy: Strategy) -> tuple[Unit, ...]:
    """The units that a strategy is made of, part by part; selection is nothing to them."""
    ones = [(replace(part, select="weighted"), count) for part, count in strategy.parts()]
    return tuple(
        Unit(SAMPLES if one.takes_samples else str(one), one, count) for one, count in ones
    )


class Answered(NamedTuple):
    """A stored candidate, as far as it takes part in a selection.

    unit: which of its configuration's units found it. scores: of the solution, by how step scores
    are aggregated; empty where it cannot be scored, None where the verifier was never asked.
    confidence: the generator's own, as `strategies.selection.confidence`; None if not known.
    """

    unit: int
    answer: str | None
    correct: bool
    scores: dict[Aggregation, float] | None
    confidence: float | None = None

    def weight(self, by: Weight) -> float | None:
        """What its vote weighs; None if that is not known.

        Raises:
            KeyError: scores were not aggregated in that way.
        """
        if by == "confidence":
            return self.confidence
        return self.scores[by] if self.scores else None


def pool_of(task: Task, candidates: Sequence[Answered], units: int, by: Weight | None) -> Pool:
    """The answers of so many units. by: those of unknown weight do not vote; None: none has any.

    Raises:
        KeyError: as `Answered.weight`.
    """
    weights = [None if by is None else c.weight(by) for c in candidates]
    known = [by is None or weight is not None for weight in weights]
    voting = [c for c, k in zip(candidates, known, strict=True) if k and c.answer is not None]
    groups = _grouped(task, tuple(c.answer for c in voting))
    names = sorted({name for name in groups if name is not None})
    index = {name: i for i, name in enumerate(names)}
    right = {c.answer: c.correct for c in voting}
    scores = None if by is None else [c.weight(by) for c in voting]
    return Pool(
        units=units,
        unit=np.array([c.unit for c in voting], dtype=np.int64),
        group=np.array([index[name] for name in groups if name is not None], dtype=np.int64),
        correct=np.array([right[name] for name in names], dtype=np.bool_),
        score=None if scores is None else np.array(scores, np.float64),
    )


@lru_cache(maxsize=4096)
def _grouped(task: Task, answers: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Comparing answers is slow, and the same pool serves many kinds of votes."""
    return task.group_sync(answers).representatives


def together(pools: Sequence[StoredPool], by: Weight | None) -> Pool:
    """One pool of the units of several, pool after pool; all of the same problem."""
    starts = accumulate((pool.units for pool in pools), initial=0)
    candidates = [
        candidate._replace(unit=candidate.unit + start)
        for pool, start in zip(pools, starts, strict=False)
        for candidate in pool.candidates
    ]
    return pool_of(pools[0].task, candidates, sum(pool.units for pool in pools), by)


@dataclass
class StoredPool:
    """What is stored of one configuration on one problem.

    task: what the problem asks for.
    drawn: all candidates; graded, right: those that decide the level, and the correct ones of them.
    candidates: the others, in the order they came.
    """

    task: Task
    units: int = 0
    drawn: int = 0
    graded: int = 0
    right: int = 0
    candidates: list[Answered] = field(default_factory=list)

    def votes(self, by: Weight | None) -> bool:
        """Whether its candidates are selected by these weights."""
        if by is None:
            return True
        known = [c.weight(by) is not None for c in self.candidates]
        asked = by == "confidence" or all(c.scores is not None for c in self.candidates)
        return asked and voters("weighted", known).how == "weighted"

    def scores(self, how: Aggregation) -> Floats:
        """Of each candidate; NaN where it has none."""
        return np.array([c.scores[how] if c.scores else np.nan for c in self.candidates])


class _Costs(NamedTuple):
    """Tokens of one unit, shape (problems,): sampled, computed of its prompt, and scored.

    once: what the first unit of a search computes of its prompt besides, and no other does.
    """

    sampled: Floats
    prompt: Floats
    verifier: Floats
    once: Floats


class StoredPools:
    """A store's candidates and costs, by configuration and problem.

    only: ids of the problems that are read; None is all. level_samples: as `measure` takes it.
    """

    def __init__(
        self,
        store: RolloutStore,
        strategies: Iterable[Strategy],
        only: Collection[str] | None,
        level_samples: int,
    ) -> None:
        strategies = list(strategies)
        self.origin: Origin = store.origin
        usual = {self.aggregation(name) for name in (None, *self.origin.others)}
        self._ways = {*usual, *(s.aggregate for s in strategies if s.aggregate)}
        units = [unit for strategy in strategies for unit in units_of(strategy)]
        wanted = {SAMPLES, *(unit.configuration for unit in units)}
        sampled = (u.configuration for u in units if isinstance(u.strategy, BestOfN))
        self._whole = {SAMPLES, *sampled}
        self.pools: dict[str, dict[str, StoredPool]] = {name: {} for name in wanted}
        self._spent: defaultdict[str, dict[str, tuple[float | None, ...]]] = defaultdict(dict)
        tasks = {problem.id: problem.task for problem in store.problems()}
        rows = store.outcomes()
        for (problem, name), found in groupby(rows, key=lambda row: (row[0], row[1])):
            if name in wanted and (only is None or problem in only):
                level = level_samples if name == SAMPLES else None
                self.pools[name][problem] = self._stored(get_task(tasks[problem]), found, level)
        for problem, name, *sums in store.spent():
            self._spent[name][problem] = tuple(sums)
        self.fleet: Fleet = relative_costs(self.origin, self._spent)

    def aggregation(self, model: str | None) -> Aggregation:
        """How step scores of a model's solutions become one."""
        return self.origin.by(model).aggregation or "last"

    def _stored(
        self, task: Task, rows: Iterator[tuple[Any, ...]], level_samples: int | None
    ) -> StoredPool:
        """level_samples: for a pool of samples; None for runs."""
        stored = StoredPool(task)
        last: object = None
        for _, _, repeat, answer, correct, scores, _, logprobs, tokens in rows:
            stored.drawn += correct is not None
            if level_samples is not None:
                decides = level_samples == 0 or stored.drawn <= level_samples
                stored.graded += decides
                stored.right += decides and bool(correct)
                if stored.drawn <= level_samples:
                    continue
            stored.units += level_samples is not None or repeat != last
            last = repeat
            if correct is None:
                continue
            steps = None if scores is None else json.loads(scores)
            by = None if steps is None else {h: aggregate(steps, h) for h in self._ways if steps}
            sure = None
            if logprobs is not None and tokens is not None:
                sure = confidence(json.loads(logprobs), json.loads(tokens))
            one = Answered(stored.units - 1, answer, bool(correct), by, sure)
            stored.candidates.append(one)
        return stored

    def tokens(self, configuration: str, problems: Sequence[str]) -> Floats:
        """Sampled tokens of one unit on each problem."""
        return self._costs(configuration, problems).sampled

    def flops(
        self,
        configuration: str,
        problems: Sequence[str],
        *,
        verified: bool,
        model: str | None = None,
    ) -> Floats:
        """FLOPs of one unit more on each problem, of tokens that a model really computed."""
        cost, origin = self._costs(configuration, problems), self.origin.by(model)
        own = per_token(origin.parameters) * (cost.sampled + cost.prompt)
        if not verified:
            return own
        # A verifier that computed no token (it read the generator's states) is free at any size.
        scorer = np.where(cost.verifier == 0, 0.0, per_token(origin.verifier_parameters))
        return np.asarray(own + scorer * cost.verifier, np.float64)

    def once(self, configuration: str, problems: Sequence[str], model: str | None = None) -> Floats:
        """FLOPs on each problem that a search of such units has, however many they are."""
        each = per_token(self.origin.by(model).parameters)
        return each * self._costs(configuration, problems).once

    def _costs(self, configuration: str, problems: Sequence[str]) -> _Costs:
        """Of one unit. Whole solutions share their prompt, whatever requests they came in.

        A search of them reads its prompt once, and every other sample computes what no block of
        the prefix cache holds, the prompt's end. So a search of few samples does not pay for a
        pool that was drawn at once, nor does it get a share of that pool's one prompt. (Engines
        that count a prompt once for all samples of a request do not say how long it is: there each
        has its share.)
        """
        spent = self._spent.get(configuration, {})
        unknown = (np.nan,) * 6
        rows = np.array([spent.get(problem, unknown) for problem in problems], dtype=np.float64)
        runs, generations, sampled, prompt, computed, verifier = rows.T
        if configuration not in self._whole:
            return _Costs(sampled / runs, computed / runs, verifier / runs, np.zeros(len(runs)))
        whole = prompt / generations
        later, others = computed - runs * whole, generations - runs
        further = np.where(others > 0, later / np.maximum(others, 1), computed / generations)
        further = np.clip(further, 0.0, whole)
        return _Costs(sampled / generations, further, verifier / generations, whole - further)
