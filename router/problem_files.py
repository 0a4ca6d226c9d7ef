"""Files of problems: JSON lines, a JSON array, or a table (CSV), known by what is in them.

Whatever one record holds, it costs itself: it is named by its line, and the others are read.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from router.io import decode, read_bytes
from router.models.errors import InputError
from router.models.types import Problem
from router.strategies.tasks import check_gold, get_task

Record = dict[str, Any] | InputError
"""What one line, item or row holds, or why it holds nothing."""

STDIN: Final = Path("-")

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "problem": ("problem", "question", "text", "prompt", "input", "query"),
    "answer": (
        *("answer", "gold", "gold_answer", "final_answer", "expected_answer", "ground_truth"),
        *("target", "solution"),
    ),
    "id": ("id", "unique_id", "problem_id", "question_id", "uid", "idx"),
    "task": ("task",),
    "source": ("source",),
}
"""Our name of a field, and what data sets call it, in any case; the first that is filled counts."""

_JSON: Final = frozenset({".json", ".jsonl", ".ndjson"})
_TABLES: Final = frozenset({".csv", ".tsv"})
_DELIMITERS: Final = ",;\t"
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_NEXT_ITEM: Final = re.compile(r"\}\s*,\s*(?=\{)")
_NEXT_OBJECT: Final = re.compile(r",\s*(?=\{)")
_COMMA: Final = re.compile(r"[\s,]*")
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that holds no problem, and the line on which it begins."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Problems:
    """The problems of a file, the line on which each begins, and the records that hold none."""

    name: str
    problems: tuple[Problem, ...]
    lines: tuple[int, ...]
    broken: tuple[Broken, ...]

    def told(self) -> Iterator[str]:
        """A sentence on each record that holds no problem."""
        for broken in self.broken:
            yield f"{self.name}, line {broken.line}: {broken.why}"


def read_problems(path: Path, task: str = "maths") -> Problems:
    """The problems of a file; `-` is stdin.

    A problem without an id gets its line number, one without a task this `task`.

    Raises:
        InputError: it cannot be read, or holds no problem.
    """
    found = problems_or_text(*source(path), task)
    if isinstance(found, str):
        raise InputError(
            f"{path} holds no problem: it is neither JSON lines, nor a JSON array, nor a table with"
            f" a column such as {', '.join(FIELDS['problem'][:3])}"
        )
    return found


def read_graded(path: Path) -> tuple[Problem, ...]:
    """The problems of a file that is to be sampled for hours: every record must be one.

    Raises:
        InputError: as `read_problems`, or a record holds no problem, or no gold answer.
    """
    found = read_problems(path)
    for sentence in found.told():
        raise InputError(sentence)
    graded = list(zip(found.lines, found.problems, strict=True))
    ungraded = [(line, problem.id) for line, problem in graded if problem.answer is None]
    if ungraded:
        line, first = ungraded[0]
        raise InputError(
            f"{len(ungraded)} of {len(graded)} problems in {path} have no gold answer"
            f" (first: {first!r}, line {line}); give each record a field 'answer'"
        )
    return found.problems


def source(path: Path) -> tuple[bytes, str]:
    """All of a file, and its name; `-` is stdin.

    Raises:
        InputError: it cannot be read.
    """
    return (sys.stdin.buffer.read(), "stdin") if path == STDIN else (read_bytes(path), str(path))


def problems_or_text(data: bytes, name: str, task: str) -> Problems | str:
    """The problems that `data` holds; the text itself, if it is that of one problem.

    Raises:
        InputError: it looks like a file of problems and holds none, or it is not UTF-8.
    """
    # Bytes that are not UTF-8 become lone surrogates, which cost only the record they are in.
    text = data.decode("utf-8-sig", "surrogateescape")
    suffix = Path(name).suffix.lower()
    delimiter = _delimiter(text, must=suffix in _TABLES)
    records: Iterable[tuple[int, Record]]
    if delimiter is not None and suffix not in _JSON:
        records = _rows(text, delimiter)
    elif (items := _array(text, must=suffix == ".json")) is not None:
        records = items
    elif suffix in _JSON or _has_json_lines(text):
        records = _json_lines(text)
    else:
        return decode(data, name)
    return _problems(records, name, task)


def _problems(records: Iterable[tuple[int, Record]], name: str, task: str) -> Problems:
    problems: dict[str, tuple[int, Problem]] = {}
    broken: list[Broken] = []
    for line, record in records:
        try:
            if isinstance(record, InputError):
                raise record
            fields = _renamed(record)
            if "problem" not in fields:
                names = ", ".join(FIELDS["problem"])
                raise InputError(f"it has no problem, which one of its fields must be: {names}")
            problem = Problem.from_dict(fields, str(line), task)
            _check(problem)
            if problem.id in problems:
                first = problems[problem.id][0]
                raise InputError(f"id {problem.id!r} is that of line {first} already")
        except InputError as error:
            broken.append(Broken(line, str(error)))
        else:
            problems[problem.id] = line, problem
    if not problems:
        first_broken = f" (line {broken[0].line}: {broken[0].why})" if broken else ""
        raise InputError(f"{name} holds no problem{first_broken}")
    lines, whole = zip(*problems.values(), strict=True)
    return Problems(name, whole, lines, tuple(broken))


def _renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record by our names; fields that are null or empty are left out."""
    filled = {
        key.strip().lower(): value for key, value in record.items() if value not in (None, "")
    }
    return {
        ours: next(filled[name] for name in names if name in filled)
        for ours, names in FIELDS.items()
        if any(name in filled for name in names)
    }


def _check(problem: Problem) -> None:
    """Refuse what no tokenizer takes, and a gold answer that nothing can be equal to.

    Raises:
        InputError: names the field.
    """
    fields = {"id": problem.id, "problem": problem.text, "answer": problem.answer or ""}
    for name, text in fields.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"field {name!r} holds half a character (a lone surrogate, or a byte that is not"
                f" UTF-8) at {error.start}"
            ) from None
    get_task(problem.task)
    if problem.answer is not None:
        check_gold(problem)


# -- JSON -------------------------------------------------------------------------------------


def _json_lines(text: str) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(_LINE.findall(text), start=1):
        if line.strip():
            try:
                yield number, _object(json.loads(line))
            except (ValueError, RecursionError) as error:
                yield number, InputError(f"it is not JSON: {error}")


def _has_json_lines(text: str) -> bool:
    """Whether the first line is a JSON object, or any line one with a problem."""
    return any(
        isinstance(record, dict) and (index == 0 or "problem" in _renamed(record))
        for index, (_, record) in enumerate(_json_lines(text))
    )


def _array(text: str, *, must: bool) -> list[tuple[int, Record]] | None:
    """The items of a JSON array, or one object on several lines; None if it is neither.

    must: the file's name says JSON, so that `[` begins an array whatever follows. After an item
    that is broken comes the next that looks like one.
    """
    start = re.match(r"\s*\[" if must else r"\s*\[(?=\s*\{)", text)
    if start is None:
        return _one_object(text)
    items: list[tuple[int, Record]] = []
    decoder, at, line, counted = json.JSONDecoder(), _past_commas(text, start.end()), 1, 0
    while at < len(text) and text[at] != "]":
        line, counted = line + len(_NEWLINE.findall(text, counted, at)), at
        try:
            item, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            items.append((line, InputError(f"it is not JSON: {why}")))
            following = (_NEXT_ITEM if text[at] == "{" else _NEXT_OBJECT).search(text, at)
            end = following.end() if following else len(text)
        else:
            items.append((line, _object(item)))
        at = _past_commas(text, end)
    if text[at + 1 :].strip():
        line += len(_NEWLINE.findall(text, counted, at))
        items.append((line, InputError("there is more after the end of the array")))
    return items


def _one_object(text: str) -> list[tuple[int, Record]] | None:
    try:
        item = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return [(1, item)] if isinstance(item, dict) else None


def _object(item: Any) -> Record:
    if isinstance(item, dict):
        return item
    return InputError(f"it is no JSON object but {type(item).__name__}")


def _past_commas(text: str, at: int) -> int:
    match = _COMMA.match(text, at)
    return match.end() if match else at


# -- tables -----------------------------------------------------------------------------------


def _delimiter(text: str, *, must: bool) -> str | None:
    """What separates the columns of a table whose header names a problem; None if it is none.

    must: the file's name says that it is a table, so that one column, or a bad header, is one too.
    """
    first = next(iter(_LINE.findall(text)), "")
    for delimiter in _DELIMITERS:
        header = [cell.strip(' "').lower() for cell in first.split(delimiter)]
        if len(header) > 1 and not set(header).isdisjoint(FIELDS["problem"]):
            return delimiter
    return _DELIMITERS[0] if must else None


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, Record]]:
    """Each row by the names of the header; after one that is broken, the line that follows."""
    lines = _LINE.findall(text)
    header: list[str] | None = None
    start = 0
    while start < len(lines):
        reader = csv.reader(iter(lines[start:]), delimiter=delimiter, strict=True)
        read = 0
        try:
            for row in reader:
                number, read = start + read + 1, reader.line_num
                if not row:
                    continue
                if header is None:
                    header = row
                elif len(row) == len(header):
                    yield number, dict(zip(header, row, strict=True))
                else:
                    why = f"it has {len(row)} cells, and the header has {len(header)}"
                    yield number, InputError(why)
            return
        except csv.Error as error:
            yield start + read + 1, InputError(f"it is no row of a table: {error}")
            start += read + 1
