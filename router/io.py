"""Files of problems and of solutions: JSON lines in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from router.models.errors import InputError, RouterError
from router.models.types import Problem
from router.records import Solution
from router.strategies.tasks import get_task


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that holds no problem."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Problems:
    """The problems of a JSONL file, and the lines that hold none."""

    problems: tuple[Problem, ...]
    broken: tuple[Broken, ...]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    return decode(_read(path), str(path))


def decode(data: bytes, name: str) -> str:
    """UTF-8 text, without a byte order mark.

    Raises:
        InputError: it is not UTF-8; names the source and the first bad byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start} cannot be read)") from None


def read_problems(path: Path, task: str = "maths") -> Problems:
    """Read a JSONL file: one object `{"id", "problem", "answer"?, "task"?}` a line, or none.

    A problem without an id gets its line number, one without a task this `task`.

    Raises:
        InputError: the file cannot be read, holds no problem at all, or uses an id twice.
    """
    problems: list[Problem] = []
    broken: list[Broken] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(_read(path).splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            record = _record(decode(raw, "it"))
            problem = Problem.from_dict(record, default_id=str(number), default_task=task)
            get_task(problem.task)
        except InputError as error:
            broken.append(Broken(number, str(error)))
            continue
        if problem.id in lines:
            raise InputError(
                f"{path}: lines {lines[problem.id]} and {number} have the same id {problem.id!r};"
                " ids must be unique"
            )
        lines[problem.id] = number
        problems.append(problem)
    if not problems:
        first = f" (line {broken[0].line}: {broken[0].why})" if broken else ""
        raise InputError(f"{path} holds no problem{first}")
    return Problems(tuple(problems), tuple(broken))


def read_solutions(path: Path) -> list[Solution]:
    """What `router solve --out` has written so far; a torn last line is cut off the file.

    Raises:
        InputError: the file cannot be read, or a line in it is no solution.
    """
    data = _read(path)
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    solutions = []
    for number, raw in enumerate(whole.splitlines(), start=1):
        try:
            solutions.append(Solution.from_dict(_record(decode(raw, "it"))))
        except (InputError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number} is no solution of an earlier run ({error});"
                " take another --out"
            ) from None
    return solutions


Mode = Literal["w", "a"]


@contextmanager
def line_file(path: Path | None, mode: Mode = "w") -> Iterator[TextIO | None]:
    """A file to write lines to; None gives None.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        file = path.open(mode, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield file
    finally:
        with suppress(OSError):  # every line is flushed, so nothing is lost
            file.close()


def write_line(file: TextIO, record: Mapping[str, Any]) -> None:
    """Write one record so that it is in the file before the next one is computed.

    Raises:
        RouterError: it cannot be written, as on a full disk.
    """
    try:
        file.write(json.dumps(record) + "\n")
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RouterError(f"cannot write {file.name}: {error.strerror}") from None


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise InputError(f"it is no JSON object but {type(record).__name__}")
    return record


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
