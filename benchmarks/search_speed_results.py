"""What `benchmarks.search_speed` measured: the file, and the ratios that the targets ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance
from router.models.errors import InputError


class Results:
    """The file of results; refuses to mix two settings in it."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self._file = file
        self.record: dict[str, Any] = {"settings": settings, "runs": [], "cells": {}}
        if file.is_file():
            self.record = json.loads(file.read_text())
            if self.record["settings"] != settings:
                raise InputError(f"{file} holds other settings; give another --output")
        self.record["runs"].append(provenance())

    def has(self, key: str) -> bool:
        return key in self.record["cells"]

    def add(self, key: str, measured: dict[str, Any]) -> None:
        self.record["cells"][key] = measured
        self.record["summary"] = summary(self.record["cells"])
        partial = self._file.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(self.record, indent=1) + "\n")
        partial.replace(self._file)


def summary(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios that the targets ask for, of the cells that are there."""
    by_key = {key: row for key, row in measured.items() if row["seconds"]}
    ceiling = next((row for row in by_key.values() if row["way"] == "ceiling"), None)
    found: dict[str, Any] = {}
    for key, row in by_key.items():
        if row["way"] != "router":
            continue
        ratios: dict[str, Any] = {}
        if ceiling:
            rate = row["tokens_per_second"] / ceiling["tokens_per_second"]
            ratios["of_engine_token_rate"] = round(rate, 3)
        for other in by_key.values():
            if other["way"] in ("router", "ceiling") or (other["strategy"], other["n"]) != (
                row["strategy"],
                row["n"],
            ):
                continue
            name = f"{other['way']}, {other['in_flight']} of {other['problems']}"
            ratios[name] = {
                "problems_per_hour": round(
                    row["problems_per_hour"] / other["problems_per_hour"], 2
                ),
                "sampled_tokens_per_problem": _per_problem(row, other, "sampled_tokens"),
                "verifier_tokens_per_problem": _per_problem(row, other, "verifier_tokens"),
            }
        found[key] = ratios
    return found


def _per_problem(row: dict[str, Any], other: dict[str, Any], what: str) -> float | None:
    if row[what] is None or not other[what]:
        return None
    ratio: float = (row[what] / row["problems"]) / (other[what] / other["problems"])
    return round(ratio, 3)
