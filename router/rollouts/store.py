"""Stored rollouts: every problem, every run on it, every candidate, in one SQLite file.

Sampling is what a fit costs, so each run is committed as it finishes, and everything later (table,
estimator, verifier training, evaluation) is a function of this file. One process writes at a time;
any number read. A killed writer loses the run in flight, nothing else.

Samples of a problem that are exchangeable form a *pool* under one configuration text, one run a
batch of samples: `best_of_n` for whole solutions. They are kept in the order they came.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from router.models.errors import InputError
from router.models.types import Problem
from router.models.usage import Usage
from router.rollouts.database import PREFILLS, check, connect, has_column, prepare, put_meta
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill, dump

SAMPLES = "best_of_n"
"""Configuration text of the pool of whole solutions."""


class RolloutStore:
    """The open file. Use as a context manager; open it with `create` or `read`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        origin: Origin,
        lock: BaseFileLock | None,
    ) -> None:
        self._db = connection
        self._lock = lock
        self.path = path
        self.origin = origin

    @classmethod
    def create(cls, path: Path, origin: Origin) -> RolloutStore:
        """Open for writing, as the only writer; make the file if there is none.

        Raises:
            InputError: another process writes it, it is no rollout store, or it holds rollouts of
                another origin or schema.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"another process is writing {path}; wait for it to end, or give another store"
            ) from None
        try:
            connection = connect(path, writable=True)
            origin = prepare(connection, path, origin)
        except BaseException:
            lock.release()
            raise
        return cls(connection, path, origin, lock)

    @classmethod
    def read(cls, path: Path, origin: Origin | None = None) -> RolloutStore:
        """Open for reading, also while another process writes.

        Raises:
            InputError: no such file, no rollout store, or of another origin or schema.
        """
        if not path.is_file():
            raise InputError(f"no rollout store at {path}")
        connection = connect(path, writable=False)
        return cls(connection, path, check(connection, path, origin), None)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RolloutStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- writing --------------------------------------------------------------------------

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Register problems; those already there must be the same.

        Raises:
            InputError: an id that the store holds with another text, gold answer or task.
        """
        with self.transaction():
            for problem in problems:
                row = (problem.id, problem.text, problem.answer, problem.source, problem.task)
                self._db.execute(
                    "INSERT OR IGNORE INTO problems (id, text, gold, source, task)"
                    " VALUES (?, ?, ?, ?, ?)",
                    row,
                )
                stored = self._db.execute(
                    "SELECT text, gold, task FROM problems WHERE id = ?", (problem.id,)
                ).fetchone()
                if stored != (problem.text, problem.answer, problem.task):
                    raise InputError(
                        f"problem {problem.id!r} is in {self.path} with another text or answer, or"
                        " as another task; rename it, or give another store"
                    )

    def add(self, run: Run) -> None:
        """Store one finished run, in one transaction.

        Raises:
            InputError: its problem is not registered, or this repeat is stored already.
        """
        with self.transaction():
            self._insert(run)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are stored together or not at all; for imports."""
        if self._db.in_transaction:
            yield
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def add_samples(
        self, problem: str, candidates: Sequence[StoredCandidate], usage: Usage
    ) -> None:
        """Append whole solutions to the problem's pool, in order."""
        (repeat,) = self._db.execute(
            "SELECT COUNT(*) FROM runs WHERE problem = ? AND configuration = ?", (problem, SAMPLES)
        ).fetchone()
        self.add(Run(problem, SAMPLES, repeat, "completed", usage, tuple(candidates)))

    def add_prefill(self, problem: str, prefill: StoredPrefill) -> None:
        """Store where a problem's prompt led the generator, in place of what was known of it.

        Raises:
            InputError: the problem is not registered.
        """
        row = (problem, prefill.layer, array("f", prefill.state).tobytes())
        with self.transaction():
            self._db.execute(PREFILLS)
            try:
                self._db.execute("INSERT OR REPLACE INTO prefills VALUES (?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise InputError(f"problem {problem!r} is not registered") from error

    def add_pace(self, tokens: int, seconds: float) -> None:
        """Remember how fast sampling went, for the price of the next fit."""
        with self.transaction():
            before = self._pace()
            put_meta(self._db, "pace", [before[0] + tokens, before[1] + seconds])

    def set_scores(self, run: Run) -> None:
        """Replace the scores and the usage of a stored run by those of `run`."""
        key = (run.problem, run.configuration, run.repeat)
        where = "problem = ? AND configuration = ? AND repeat = ?"
        with self.transaction():
            self._db.execute(
                f"UPDATE runs SET usage = ? WHERE {where}", (_usage_text(run.usage), *key)
            )
            self._db.executemany(
                "UPDATE candidates SET scores = ?"
                f" WHERE idx = ? AND run = (SELECT id FROM runs WHERE {where})",
                [(dump(c.scores), index, *key) for index, c in enumerate(run.candidates)],
            )

    def _insert(self, run: Run) -> None:
        try:
            row = self._db.execute(
                "INSERT INTO runs (problem, configuration, repeat, ended, usage)"
                " VALUES (?, ?, ?, ?, ?)",
                (run.problem, run.configuration, run.repeat, run.ended, _usage_text(run.usage)),
            ).lastrowid
        except sqlite3.IntegrityError as error:
            raise InputError(
                f"cannot store run {run.repeat} of {run.configuration} on problem"
                f" {run.problem!r}: it is stored already, or the problem is not registered"
            ) from error
        self._db.executemany(
            "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(row, index, *c.to_row()) for index, c in enumerate(run.candidates)],
        )

    # -- reading --------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """All registered problems, in the order of their registration."""
        task = "task" if has_column(self._db, "problems", "task") else "'maths'"
        rows = self._db.execute(
            f"SELECT id, text, gold, source, {task} FROM problems ORDER BY rowid"
        )
        return [Problem(id=i, text=t, answer=g, source=s, task=k) for i, t, g, s, k in rows]

    def held(self) -> dict[tuple[str, str], Collection[int]]:
        """The repeats stored of each (problem, configuration), in which a kill leaves gaps.

        Of a pool the numbers of its samples, from 0.
        """
        searches = self._db.execute(
            "SELECT problem, configuration, group_concat(repeat) FROM runs"
            " WHERE configuration != ? GROUP BY 1, 2",
            (SAMPLES,),
        )
        pools = self._db.execute(
            "SELECT problem, COUNT(*) FROM runs JOIN candidates ON run = runs.id"
            " WHERE configuration = ? GROUP BY 1",
            (SAMPLES,),
        )
        held: dict[tuple[str, str], Collection[int]]
        held = {(id_, name): {*map(int, repeats.split(","))} for id_, name, repeats in searches}
        return held | {(id_, SAMPLES): range(samples) for id_, samples in pools}

    def counts(self) -> Counter[tuple[str, str]]:
        """Stored runs of each (problem, configuration), and samples of each pool."""
        return Counter({key: len(repeats) for key, repeats in self.held().items()})

    def runs(self, configuration: str | None = None) -> Iterator[Run]:
        """Every run with all that is stored, ordered by problem, configuration and repeat."""
        logprobs = "logprobs" if has_column(self._db, "candidates", "logprobs") else "NULL"
        for row in self._db.execute(
            "SELECT id, problem, configuration, repeat, ended, usage FROM runs"
            " WHERE ?1 IS NULL OR configuration = ?1 ORDER BY problem, configuration, repeat",
            (configuration,),
        ):
            candidates = self._db.execute(
                "SELECT answer, correct, finish, tokens, scores, steps, step_tokens, token_ids,"
                f" {logprobs} FROM candidates WHERE run = ? ORDER BY idx",
                (row[0],),
            )
            _, problem, name, repeat, ended, usage = row
            found = tuple(StoredCandidate.from_row(c) for c in candidates)
            yield Run(problem, name, repeat, ended, _usage(usage), found)

    def samples(self) -> Iterator[tuple[Problem, tuple[StoredCandidate, ...]]]:
        """Each problem that has samples, with its whole pool in order."""
        problems = {problem.id: problem for problem in self.problems()}
        pool: list[StoredCandidate] = []
        current: str | None = None
        for run in self.runs(SAMPLES):
            if current is not None and run.problem != current:
                yield problems[current], tuple(pool)
                pool = []
            current = run.problem
            pool += run.candidates
        if current is not None:
            yield problems[current], tuple(pool)

    def prefills(self) -> dict[str, StoredPrefill]:
        """What is known of the prompts of problems, by the problem's id."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'prefills'").fetchone():
            return {}
        rows = self._db.execute("SELECT problem, layer, state FROM prefills ORDER BY rowid")
        return {name: StoredPrefill(layer, tuple(array("f", s))) for name, layer, s in rows}

    def spent(self) -> Iterator[tuple[Any, ...]]:
        """Sums over the runs of each problem and configuration, added up by SQLite.

        (problem, configuration, runs, generations, sampled tokens, prompt tokens, those of them
        that were computed, verifier tokens); None for a sum with an unknown part.
        """

        def total(*names: str) -> str:
            value = " - ".join(f"json_extract(usage, '$.{name}')" for name in names)
            return f"CASE WHEN SUM(({value}) IS NULL) THEN NULL ELSE SUM({value}) END"

        yield from self._db.execute(
            f"SELECT problem, configuration, COUNT(*), {total('generations')},"
            f" {total('sampled_tokens')}, {total('prompt_tokens')},"
            f" {total('prompt_tokens', 'prompt_tokens_cached')}, {total('verifier_tokens')}"
            " FROM runs GROUP BY problem, configuration"
        )

    def rates(self) -> tuple[float | None, float | None]:
        """Sampled tokens a generation, and a second, as measured so far; None if not known."""
        generations, tokens = self._db.execute(
            "SELECT SUM(json_extract(usage, '$.generations')),"
            " SUM(json_extract(usage, '$.sampled_tokens')) FROM runs"
        ).fetchone()
        sampled, seconds = self._pace()
        return (
            tokens / generations if tokens and generations else None,
            sampled / seconds if sampled and seconds else None,
        )

    def _pace(self) -> tuple[int, float]:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'pace'").fetchone()
        tokens, seconds = json.loads(row[0]) if row else (0, 0.0)
        return tokens, seconds

    def outcomes(self) -> Iterator[tuple[Any, ...]]:
        """Every candidate, with its scores, log-probabilities and tokens of each step as JSON.

        (problem, configuration, repeat, answer, correct, scores, tokens, log-probabilities, tokens
        of each step).

        What estimates need, as plain rows: a store of 640,000 candidates is read in seconds. A run
        that found nothing is one row whose `correct` is None.
        """
        logprobs = "logprobs" if has_column(self._db, "candidates", "logprobs") else "NULL"
        yield from self._db.execute(
            f"SELECT problem, configuration, repeat, answer, correct, scores, tokens, {logprobs},"
            " step_tokens FROM runs LEFT JOIN candidates ON run = runs.id"
            " ORDER BY problem, configuration, repeat, idx"
        )


# -- records <-> rows -----------------------------------------------------------------------


def _usage_text(usage: Usage) -> str:
    return json.dumps(asdict(usage))


def _usage(text: str) -> Usage:
    return Usage.from_dict(json.loads(text))
