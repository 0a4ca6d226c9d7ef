"""Files of JSON objects, one a line, compressed if the name ends in `.gz`."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from router.models.errors import InputError

SUFFIXES = (".gz", ".jsonl")


def read_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number, from 1, and its object.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        with _open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{file} line {number} is not JSON: {error}") from error
                if not isinstance(record, dict):
                    raise InputError(f"{file} line {number} is not a JSON object")
                yield number, record
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one object a line; the same objects give the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with _open(file, "wb") as binary, io.TextIOWrapper(binary, "utf-8") as out:
            for record in records:
                out.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error}") from error


def _open(file: Path, mode: str) -> IO[bytes]:
    if file.suffix == ".gz":
        # Without the time stamp, which would change the bytes.
        return cast("IO[bytes]", gzip.GzipFile(file, mode, mtime=0))
    return cast("IO[bytes]", file.open(mode))
