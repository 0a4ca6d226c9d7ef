"""Files of solutions and traces: what is torn is cut, what is of another run is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from router.io import Solved, keep_traces, read_solutions, read_text
from router.models.errors import InputError
from router.models.types import Chain, Problem
from router.strategies.trace import Trace
from tests.router.test_records import solution


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return path


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nowhere.txt: No such file"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_text(tmp_path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p.txt is not UTF-8 text \(byte 3"):
        read_text(write(tmp_path / "p.txt", b"caf\xc3\xe9"))


def solved(problem: str = "p1", **settings: object) -> Solved:
    found = replace(
        solution(), problem_id=problem, trace=Trace([Chain(Problem(problem, "1 + 1?"))])
    )
    return Solved(found, {"budget": 4, **settings}, "0123")


def lines(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_torn_last_line_of_an_earlier_run_is_cut_off(tmp_path: Path) -> None:
    whole = json.dumps(solved().to_dict())
    file = write(tmp_path / "out.jsonl", whole, whole[:40])
    assert read_solutions(file) == [solved()]
    assert file.read_text() == whole + "\n"


def test_solution_that_does_not_say_what_made_it_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "out.jsonl", json.dumps(solution().to_dict()), "")
    with pytest.raises(InputError, match="line 1 does not say which settings"):
        read_solutions(file)


def test_digest_of_settings_is_the_same_wherever_it_is_made() -> None:
    settings = {"temperature": 0.8, "strategy": "auto", "stop": ["é"], "seed": None}
    line = Solved(solution(), settings, "0123")
    assert line.settings_digest == "ada4dffe0e9003fc"
    turned = Solved(solution(), dict(reversed(settings.items())), "0123")
    assert turned.settings_digest == line.settings_digest


def test_trace_is_cut_to_the_whole_lines_that_have_a_solution(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    first, lost, last = (solved(name).trace_dict() for name in ("a", "b", "c"))
    file.write_text(lines(first, lost, last) + '{"problem_id": "d", "nod')
    assert keep_traces(file, [solved("a"), solved("c"), solved("d")]) == 2
    assert file.read_text() == lines(first, last)
    assert list(tmp_path.iterdir()) == [file]


def test_trace_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    for other in (solved("a", budget=8).trace_dict(), {"problem_id": "a", "nodes": []}, {}):
        file.write_text(lines(solved("a").trace_dict(), other) + "{")
        before = file.read_bytes()
        with pytest.raises(InputError, match="line 2 is no trace of the run"):
            keep_traces(file, [solved("a")])
        assert file.read_bytes() == before


def test_file_of_something_else_is_not_taken_for_solutions(tmp_path: Path) -> None:
    file = write(tmp_path / "out.jsonl", '{"id": "a", "problem": "1 + 1?"}', "")
    before = file.read_bytes()
    with pytest.raises(InputError, match="line 1 is no solution"):
        read_solutions(file)
    assert file.read_bytes() == before
