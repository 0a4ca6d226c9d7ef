"""Rollouts as a verifier's training and test data: read them, check them, label their steps."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from router.models.base import GeneratorInfo
from router.models.errors import InputError
from router.models.tokens import ChainEncoder
from router.models.training.labels import Graded, step_labels
from router.models.types import Problem, Sampling
from router.rollouts.export import is_exported, open_rollouts
from router.rollouts.lines import SUFFIXES
from router.rollouts.runs import Origin, StoredCandidate
from router.rollouts.samples_jsonl import import_samples
from router.rollouts.store import RolloutStore
from router.strategies.tasks import get_task

_FEWEST, _MOST = 4, 0.75
"""Solutions, and their share, that must agree with each other against a gold answer."""

_COMPLETIONS = re.compile(r"completions\(sample=\d+, steps=(\d+)\)")


def completions_name(sample: int, steps: int) -> str:
    """Configuration text of the store's runs that complete the first `steps` steps of a sample."""
    return f"completions(sample={sample}, steps={steps})"


@dataclass(frozen=True, slots=True)
class SolutionPool:
    """One problem, its solutions sampled from scratch, and completions of their step prefixes.

    completions: whole solutions, each with the number of steps that it was given.
    """

    problem: Problem
    candidates: tuple[StoredCandidate, ...]
    completions: tuple[tuple[StoredCandidate, int], ...] = ()

    @property
    def mixed(self) -> bool:
        """Has both right and wrong solutions."""
        return len({candidate.correct for candidate in self.candidates}) == 2

    @property
    def suspect(self) -> bool:
        """Whether the gold answer may be wrong: no solution gives it, and most agree on another."""
        answers = [candidate.answer for candidate in self.candidates]
        if any(candidate.correct for candidate in self.candidates):
            return False
        agreed = Counter(get_task(self.problem.task).group_sync(answers).representatives)
        del agreed[None]
        return max(agreed.values(), default=0) >= max(_FEWEST, _MOST * len(answers))

    @property
    def worth_reading(self) -> SolutionPool:
        """The same, without what teaches nothing.

        Of solutions that all end alike, one says what the problem is like, and none which to
        choose; reading their states is what training costs.
        """
        alike = not self.mixed and not self.completions
        return replace(self, candidates=self.candidates[:1]) if alike else self

    def labels(self) -> list[tuple[float, ...]]:
        """P(right in the end) of every step of every candidate, as `step_labels` estimates it."""
        started = [(candidate, 0) for candidate in self.candidates]
        return step_labels(
            [
                Graded(candidate.chain(self.problem), candidate.correct, start)
                for candidate, start in [*started, *self.completions]
            ]
        )

    @property
    def unscored(self) -> SolutionPool:
        """The same without any scores."""
        return replace(self, candidates=tuple(c.unscored for c in self.candidates))

    @property
    def has_scores(self) -> bool:
        """Whether every candidate was scored; one that cannot be has an empty score."""
        return all(candidate.scores is not None for candidate in self.candidates)

    def scored(self, scores: Sequence[Sequence[float]]) -> SolutionPool:
        """The same with a verifier's score of each step of each candidate."""
        pairs = zip(self.candidates, scores, strict=True)
        return replace(self, candidates=tuple(replace(c, scores=tuple(s)) for c, s in pairs))


def read_pools(
    file: Path, problems: Mapping[str, Problem], encoder: ChainEncoder, verifier: str | None = None
) -> tuple[SolutionPool, ...]:
    """The solutions in a rollout store, exported or not, or in a `.jsonl[.gz]` file of samples.

    problems: texts and gold answers of a file that has only ids; with any, others are left out.
    verifier: name of the one whose scores are kept, if the store has them; others' are left out.

    Raises:
        InputError: the file cannot be read, a problem has no gold answer, or nothing is left.
    """
    if file.suffix in SUFFIXES and not is_exported(file):
        origin = Origin.of(GeneratorInfo(file.name, "file", encoder.prompt.id), Sampling())
        with (
            TemporaryDirectory() as scratch,
            RolloutStore.create(Path(scratch) / "rollouts.sqlite", origin) as store,
        ):
            import_samples(store, file, problems, encoder)
            pools = _pools(store)
    else:
        with open_rollouts(file) as store:
            pools = _pools(store)
            if store.origin.verifier != verifier:
                pools = [pool.unscored for pool in pools]
    kept = tuple(pool for pool in pools if not problems or pool.problem.id in problems)
    if not kept:
        raise InputError(f"{file} holds no samples of the {len(problems)} problems given")
    return kept


def read_together(
    files: Sequence[Path],
    problems: Mapping[str, Problem],
    encoder: ChainEncoder,
    verifier: str | None = None,
) -> tuple[SolutionPool, ...]:
    """As `read_pools` of several files; a problem that stands in several has all their solutions.

    Raises:
        InputError: as `read_pools`, or one id has two texts.
    """
    found: dict[str, SolutionPool] = {}
    for file in files:
        for pool in read_pools(file, problems, encoder, verifier):
            known = found.get(pool.problem.id)
            if known is None:
                found[pool.problem.id] = pool
                continue
            if known.problem.text != pool.problem.text:
                raise InputError(
                    f"{file}: problem {pool.problem.id!r} has another text in a file before it;"
                    " give one of them another id"
                )
            candidates = known.candidates + pool.candidates
            completions = known.completions + pool.completions
            found[pool.problem.id] = SolutionPool(known.problem, candidates, completions)
    return tuple(found.values())


def _pools(store: RolloutStore) -> list[SolutionPool]:
    completions: dict[str, list[tuple[StoredCandidate, int]]] = {}
    for run in store.runs():
        found = _COMPLETIONS.fullmatch(run.configuration)
        if found:
            entries = [(candidate, int(found[1])) for candidate in run.candidates]
            completions.setdefault(run.problem, []).extend(entries)
    return [
        SolutionPool(problem, candidates, tuple(completions.get(problem.id, ())))
        for problem, candidates in store.samples()
        if candidates
    ]


def check_trainable(pools: Sequence[SolutionPool]) -> None:
    """Refuse rollouts that cannot teach a verifier anything.

    Raises:
        InputError: one problem only, no solution that states an answer, or no problem with right
            and wrong ones.
    """
    if len(pools) < 2:
        raise InputError(
            "one problem cannot be split into training and held-out ones; give at least two"
        )
    candidates = [candidate for pool in pools for candidate in pool.candidates]
    if all(candidate.answer is None for candidate in candidates):
        raise InputError(
            f"none of the {len(candidates)} sampled solutions states an answer; give a larger "
            "--max-tokens, or another --prompt"
        )
    if not any(pool.mixed for pool in pools):
        solved = sum(pool.candidates[0].correct for pool in pools)
        raise InputError(
            f"none of the {len(pools)} problems has both right and wrong solutions ({solved} have "
            f"only right ones, {len(pools) - solved} only wrong ones), so there is nothing to tell "
            "apart; give more --samples, or problems of medium difficulty"
        )


def data_digest(pools: Sequence[SolutionPool]) -> str:
    """A hash of the problems, their solutions' texts and how they were graded."""
    digest = hashlib.sha256()
    for pool in sorted(pools, key=lambda pool: pool.problem.id):
        rows = [[c.text, c.correct] for c in pool.candidates]
        rows += [[c.text, c.correct, start] for c, start in pool.completions]
        digest.update(json.dumps([pool.problem.id, pool.problem.text, rows]).encode())
    return digest.hexdigest()
