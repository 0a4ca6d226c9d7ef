"""A whole rollout store as one text file, to be committed or sent, and read back as it was.

JSON Lines: first the schema and the origin, then every problem, what is known of its prompt, then
every run with all that is stored of it (steps, token ids, grades, scores, usage). So whatever can
be made from a store can be made from such a file too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from router.models.errors import InputError
from router.models.types import Problem
from router.models.usage import Usage
from router.rollouts.database import SCHEMA
from router.rollouts.lines import SUFFIXES, read_lines, write_lines
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill
from router.rollouts.store import RolloutStore
from router.strategies.registry import parse_strategy

_SEQUENCES = frozenset({"steps", "scores", "step_tokens", "token_ids", "logprobs"})


def export_store(store: RolloutStore, file: Path, *, scored: bool = True) -> int:
    """Write everything in a store, compressed if the name ends in `.gz`.

    scored: with what its verifier said; without, another can score the solutions, and searches
        that it has guided are left out.

    Returns:
        the number of candidates written.

    Raises:
        InputError: the file cannot be written.
    """
    count = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal count
        origin = store.origin if scored else store.origin.unscored
        yield {"schema": SCHEMA, "origin": origin.to_dict()}
        for problem in store.problems():
            yield {
                "id": problem.id,
                "problem": problem.text,
                "answer": problem.answer,
                "source": problem.source,
                "task": problem.task,
            }
        for name, prefill in store.prefills().items():
            yield {"prefill": name, **asdict(prefill)}
        for run in store.runs():
            if scored or not _guided(run.configuration):
                count += len(run.candidates)
                yield _run_record(run if scored else run.unscored)

    write_lines(file, records())
    return count


def import_store(file: Path, path: Path) -> int:
    """Add everything in an exported file to the store at `path`, which is made if there is none.

    Returns:
        the number of candidates added.

    Raises:
        InputError: no exported store, another schema or origin, a broken line (named by its
            number), or runs that the store has already; then nothing is added.
    """
    lines = read_lines(file)
    origin = _origin(file, next(lines, (1, {}))[1])
    with RolloutStore.create(path, origin) as store, store.transaction():
        count = 0
        for number, record in lines:
            try:
                if "candidates" in record:
                    run = _run(record)
                    store.add(run)
                    count += len(run.candidates)
                elif "prefill" in record:
                    state = tuple(map(float, record["state"]))
                    store.add_prefill(record["prefill"], StoredPrefill(record["layer"], state))
                else:
                    store.add_problems([Problem.from_dict(record)])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{file} line {number}: bad record: {error!r}") from error
            except InputError as error:
                raise InputError(f"{file} line {number}: {error}") from error
    return count


def is_exported(file: Path) -> bool:
    """Whether a file was written by `export_store`."""
    return file.suffix in SUFFIXES and "origin" in next(read_lines(file), (1, {}))[1]


@contextmanager
def open_rollouts(file: Path) -> Iterator[RolloutStore]:
    """A store, or what was exported from one, open for reading.

    Raises:
        InputError: it is neither, or is broken.
    """
    if file.suffix not in SUFFIXES:
        with RolloutStore.read(file) as store:
            yield store
        return
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "rollouts.sqlite"
        import_store(file, path)
        with RolloutStore.read(path) as store:
            yield store


def _guided(configuration: str) -> bool:
    """Whether a verifier took part in the search itself, and not only in the choice."""
    try:
        strategy = parse_strategy(configuration)
    except InputError:  # completions of given steps
        return False
    return any(replace(one, select="majority").needs_verifier for one in strategy.stages)


def _origin(file: Path, header: dict[str, Any]) -> Origin:
    if header.get("schema") != SCHEMA or "origin" not in header:
        raise InputError(
            f"{file} is no exported rollout store of schema {SCHEMA}: its first line does not say"
            " so; `router rollouts export` writes one"
        )
    try:
        return Origin.from_dict(header["origin"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} line 1: bad origin: {error!r}") from error


def _run_record(run: Run) -> dict[str, Any]:
    names = [field.name for field in fields(StoredCandidate)]
    return {
        "problem": run.problem,
        "configuration": run.configuration,
        "repeat": run.repeat,
        "ended": run.ended,
        "usage": asdict(run.usage),
        "candidates": [{name: getattr(c, name) for name in names} for c in run.candidates],
    }


def _run(record: dict[str, Any]) -> Run:
    candidates = tuple(_candidate(candidate) for candidate in record["candidates"])
    usage = Usage.from_dict(record["usage"])
    return Run(**{**record, "usage": usage, "candidates": candidates})


def _candidate(record: dict[str, Any]) -> StoredCandidate:
    values: dict[str, Any] = {
        name: tuple(value) if name in _SEQUENCES and value is not None else value
        for name, value in record.items()
    }
    return StoredCandidate(**values)
