"""The SQLite file of a rollout store: its tables, and whose rollouts it holds."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from router.models.errors import InputError
from router.rollouts.runs import Origin

SCHEMA = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE problems (
    id TEXT PRIMARY KEY, text TEXT NOT NULL, gold TEXT, source TEXT,
    task TEXT NOT NULL DEFAULT 'maths'
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, problem TEXT NOT NULL REFERENCES problems(id),
    configuration TEXT NOT NULL, repeat INTEGER NOT NULL, ended TEXT NOT NULL,
    usage TEXT NOT NULL, UNIQUE (problem, configuration, repeat)
);
CREATE TABLE candidates (
    run INTEGER NOT NULL REFERENCES runs(id), idx INTEGER NOT NULL, answer TEXT,
    correct INTEGER NOT NULL, finish TEXT NOT NULL, tokens INTEGER, scores TEXT,
    steps TEXT NOT NULL, step_tokens TEXT, token_ids BLOB, logprobs TEXT,
    PRIMARY KEY (run, idx)
) WITHOUT ROWID;
"""

_LATER_COLUMNS = (
    ("candidates", "logprobs", "TEXT"),
    ("problems", "task", "TEXT NOT NULL DEFAULT 'maths'"),
)
"""Columns that stores of earlier versions lack: (table, column, definition)."""

PREFILLS = """
CREATE TABLE IF NOT EXISTS prefills (
    problem TEXT PRIMARY KEY REFERENCES problems(id), layer INTEGER NOT NULL, state BLOB NOT NULL
)
"""
"""Made when the first is added: few stores have any."""


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open the file; make it if it is to be written and there is none.

    Raises:
        InputError: it is no SQLite file, or cannot be opened.
    """
    mode = "rwc" if writable else "ro"
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None
        )
        connection.execute("PRAGMA foreign_keys = ON")
        if writable:
            # The log survives a killed process at any time; only power loss may cost a last run.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} cannot be opened as a rollout store: {error}") from error
    return connection


def prepare(connection: sqlite3.Connection, path: Path, origin: Origin) -> Origin:
    """Make the tables, or bring those of an earlier version up to date; the origin as `check`.

    Raises:
        InputError: as `check`.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            _execute_all(connection, _TABLES)
            put_meta(connection, "schema", SCHEMA)
            put_meta(connection, "origin", origin.to_dict())
        origin = check(connection, path, origin)
        for table, column, kind in _LATER_COLUMNS:
            if not has_column(connection, table, column):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        put_meta(connection, "origin", origin.to_dict())
    return origin


def _execute_all(connection: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which commits: a killed first start must leave no half-made schema.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether there is such a column: stores of earlier versions lack some."""
    columns = connection.execute(f"PRAGMA table_info({table})")
    return any(name == column for _, name, *_ in columns)


def put_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Store one value about the whole store, in place of what it was."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


def check(connection: sqlite3.Connection, path: Path, origin: Origin | None) -> Origin:
    """The store's origin, joined with the caller's.

    Raises:
        InputError: it is no rollout store, or of another origin or schema.
    """
    way_out = "; give another store, or delete this one to sample again"
    try:
        meta = {k: json.loads(v) for k, v in connection.execute("SELECT key, value FROM meta")}
    except sqlite3.DatabaseError:
        raise InputError(f"{path} is an SQLite file but no rollout store{way_out}") from None
    if meta.get("schema") != SCHEMA:
        raise InputError(
            f"{path} has schema {meta.get('schema')!r}, and this version reads {SCHEMA}{way_out}"
        )
    stored = Origin.from_dict(meta["origin"])
    if origin is None:
        return stored
    try:
        return stored.joined(origin)
    except InputError as error:
        raise InputError(f"{path} holds other rollouts: {error}{way_out}") from None
