"""Files of solutions and of traces: JSON lines in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from router.models.errors import InputError, RouterError
from router.provenance import digest
from router.records import Solution


@dataclass(frozen=True, slots=True)
class Solved:
    """A line of `router solve --out`: a solution and what made it.

    settings: what it depends on but for its problem, as JSON values.
    problem_digest: of the problem as it was solved.
    """

    solution: Solution
    settings: dict[str, Any]
    problem_digest: str

    @property
    def settings_digest(self) -> str:
        return short_digest(self.settings)

    def to_dict(self) -> dict[str, Any]:
        return {**self.solution.to_dict(), "settings": self.settings, **self._digests()}

    def trace_dict(self) -> dict[str, Any]:
        """The line of `router solve --trace` that goes with it."""
        return {**self.solution.trace_dict(), **self._digests()}

    def _digests(self) -> dict[str, str]:
        return {"settings_digest": self.settings_digest, "problem_digest": self.problem_digest}


def short_digest(value: Any) -> str:
    """16 hex digits of a JSON value's SHA-256: enough to tell apart, short enough to read."""
    return digest(value)[:16]


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    return decode(read_bytes(path), str(path))


def decode(data: bytes, name: str) -> str:
    """UTF-8 text, without a byte order mark.

    Raises:
        InputError: it is not UTF-8; names the source and the first bad byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start} cannot be read)") from None


def read_solutions(path: Path) -> list[Solved]:
    """What `router solve --out` has written so far; a torn last line is cut off the file.

    Raises:
        InputError: the file cannot be read or cut, or a line in it is no solution, or does not
            say what made it.
    """
    data = read_bytes(path)
    whole = data[: data.rfind(b"\n") + 1]
    solved = []
    for number, raw in enumerate(whole.splitlines(), start=1):
        try:
            record = _record(decode(raw, "it"))
            solution = Solution.from_dict(record)
        except (InputError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number} is no solution of an earlier run ({error});"
                " take another --out"
            ) from None
        settings, problem = record.get("settings"), record.get("problem_digest")
        if not isinstance(settings, dict) or not isinstance(problem, str):
            raise InputError(
                f"{path}, line {number} does not say which settings and problem it was made from,"
                " as an earlier version of `router` wrote it; take another --out"
            )
        solved.append(Solved(solution, settings, problem))
    _cut(path, data, whole)
    return solved


def keep_traces(path: Path, solved: Sequence[Solved]) -> int:
    """Cut a trace file to the whole lines that go with `solved`; how many these are.

    A search whose solution was not written leaves a trace that nothing goes with.

    Raises:
        InputError: the file cannot be read or cut, or a line in it is no trace of their run.
    """
    problems = {(line.solution.problem_id, line.problem_digest) for line in solved}
    settings = {line.settings_digest for line in solved}
    data = read_bytes(path)
    kept = []
    for number, raw in enumerate(data[: data.rfind(b"\n") + 1].splitlines(True), start=1):
        try:
            record = _record(decode(raw, "it"))
            ours = record["settings_digest"] in settings
            solution_is_there = (record["problem_id"], record["problem_digest"]) in problems
        except (InputError, KeyError, TypeError):
            ours = False
        if not ours:
            raise InputError(
                f"{path}, line {number} is no trace of the run that --resume goes on with;"
                " take another --trace"
            )
        if solution_is_there:
            kept.append(raw)
    _cut(path, data, b"".join(kept))
    return len(kept)


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


def _cut(path: Path, data: bytes, kept: bytes) -> None:
    """Put `kept` in place of a file's content `data`, of which it is a part: all of it or none."""
    if kept == data:
        return
    real = path.resolve()
    new = real.with_name(f"{real.name}.new")
    try:
        if data.startswith(kept):  # needs no space, which a torn line may be for want of
            with real.open("r+b") as file:
                file.truncate(len(kept))
        else:
            new.write_bytes(kept)
            new.replace(real)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from None
