"""Reading problems: what is broken is named, what is whole is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from router.io import Solved, keep_traces, read_problems, read_solutions, read_text
from router.models.errors import InputError
from router.models.types import Chain, Problem
from router.strategies.trace import Trace
from tests.router.test_records import solution


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return path


def test_reads_ids_answers_and_skips_blank_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path / "p.jsonl",
        '\ufeff{"id": "a", "problem": "1 + 1?", "answer": 2, "level": 3}',
        "",
        '{"problem": "2 + 2?"}',
    )
    read = read_problems(file)
    assert [(p.id, p.text, p.answer) for p in read.problems] == [
        ("a", "1 + 1?", "2"),
        ("3", "2 + 2?", None),
    ]
    assert read.broken == ()


def test_a_line_may_name_its_task(tmp_path: Path) -> None:
    file = write(
        tmp_path / "p.jsonl",
        '{"problem": "Which?", "task": "choice"}',
        '{"problem": "Who?"}',
        '{"problem": "Why?", "task": "essay"}',
    )
    assert [p.task for p in read_problems(file).problems] == ["choice", "maths"]
    read = read_problems(file, "text")
    assert [p.task for p in read.problems] == ["choice", "text"]
    assert [(broken.line, "no task 'essay'" in broken.why) for broken in read.broken] == [(3, True)]


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "x", "problem": ',
        "[1, 2]",
        '{"id": "x"}',
        '{"id": "x", "problem": "  "}',
        '{"id": "x", "problem": "y", "answer": ["z"]}',
        b'{"id": "x", "problem": "\xff\xfe"}',
        r'{"id": "x", "problem": "1 + 1? \ud800"}',
        r'{"id": "\udc00", "problem": "1 + 1?"}',
        r'{"id": "x", "problem": "1 + 1?", "answer": "\ud800"}',
        "[" * 100_000,
    ],
)
def test_broken_line_is_named_and_others_are_kept(tmp_path: Path, line: str | bytes) -> None:
    good = '{"id": "%s", "problem": "1 + 1?"}'
    read = read_problems(write(tmp_path / "p.jsonl", good % "a", line, good % "b"))
    assert [problem.id for problem in read.problems] == ["a", "b"]
    assert [broken.line for broken in read.broken] == [2]
    assert read.broken[0].why


def test_line_separators_inside_a_text_do_not_end_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", '{"id": "a", "problem": "1\u2028+\u0085 1?"}')
    assert len(read_problems(file).problems) == 1


def test_duplicate_ids_are_refused_by_name_and_line(tmp_path: Path) -> None:
    line = '{"id": "same", "problem": "1 + 1?"}'
    with pytest.raises(InputError, match=r"lines 1 and 3 have the same id 'same'"):
        read_problems(write(tmp_path / "p.jsonl", line, "", line))


@pytest.mark.parametrize("content", ["", "\n\n", "nonsense"])
def test_file_without_a_problem_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="holds no problem"):
        read_problems(write(tmp_path / "p.jsonl", content))


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nowhere.txt: No such file"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_text(tmp_path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p.txt is not UTF-8 text \(byte 3"):
        read_text(write(tmp_path / "p.txt", b"caf\xc3\xe9"))


def solved(problem: str = "p1", **settings: object) -> Solved:
    found = replace(solution(), problem_id=problem, trace=Trace(Chain(Problem(problem, "1 + 1?"))))
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
