"""Writes problems as users give them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from router.models.types import Problem


def problem_file(path: Path, problems: Iterable[Problem]) -> Path:
    """The problems as JSONL with gold answers; the path again."""
    records = ({"id": p.id, "problem": p.text, "answer": p.answer} for p in problems)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
