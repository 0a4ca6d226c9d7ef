"""Files of problems: known by content; what is broken is named, what is whole is kept."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.models.errors import InputError
from router.problem_files import Problems, problems_or_text, read_graded, read_problems


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


@pytest.mark.parametrize("content", ["", "\n\n", "nonsense", "[]", "{}", "[1, 2]", '{"id": "a"}'])
def test_file_without_a_problem_is_refused(tmp_path: Path, content: str) -> None:
    for name in ("p.jsonl", "p.json", "p.csv"):
        with pytest.raises(InputError, match="holds no problem"):
            read_problems(write(tmp_path / name, content))


ROWS = ({"id": "a", "problem": "1 + 1?", "answer": 2}, {"id": "b", "problem": "2 + 2?"})
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = 'id,question,gold\na,1 + 1?,2\nb,2 + 2?,""\n'


@pytest.mark.parametrize("name", ["p", "p.JSONL", "p.ndjson", "p.json", "p.txt", "stdin"])
@pytest.mark.parametrize(
    "content",
    [LINES, "\ufeff\n" + LINES, LINES.replace("\n", "\r\n"), json.dumps(ROWS)]
    + [json.dumps(ROWS, indent=indent) for indent in (0, 2, "\t")],
)
def test_json_is_known_by_content(name: str, content: str) -> None:
    found = problems_or_text(content.encode(), name, "maths")
    assert isinstance(found, Problems)
    assert [(p.id, p.answer) for p in found.problems] == [("a", "2"), ("b", None)]
    assert found.broken == ()


@pytest.mark.parametrize("name", ["p.csv", "p.CSV", "p.txt", "stdin"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_known_by_their_header(name: str, delimiter: str) -> None:
    for content in (TABLE, "\ufeff" + TABLE.replace("\n", "\r\n"), TABLE.replace("id", '"ID"')):
        found = problems_or_text(content.replace(",", delimiter).encode(), name, "maths")
        assert isinstance(found, Problems)
        assert [(p.id, p.text, p.answer) for p in found.problems] == [
            ("a", "1 + 1?", "2"),
            ("b", "2 + 2?", None),
        ]


@pytest.mark.parametrize(
    "text",
    [
        "What is 1 + 1?",
        "{1, 2, 3} is a set. How many members has it?",
        "[x] is the floor of x.\nWhat is [2.5]?",
        'Sum the values in\n{"a": 1, "b": 2}',
        "The question, the problem, and the text\nare three words.",
        "[asy] draw((0,0)--(1,1)); [/asy]",
        '"Problem": a word of 7 letters',
    ],
)
def test_the_text_of_one_problem_is_one(text: str) -> None:
    assert problems_or_text(text.encode(), "p.txt", "maths") == text


def test_an_object_over_several_lines_is_one_problem(tmp_path: Path) -> None:
    file = write(tmp_path / "p.json", json.dumps(ROWS[0], indent=2))
    assert [p.id for p in read_problems(file).problems] == ["a"]


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        ({"question": "?", "answer": "1 + 1 = 2\n#### 2"}, "1 + 1 = 2\n#### 2"),  # GSM8K
        ({"problem": "?", "solution": r"So \boxed{2}.", "level": 3}, r"So \boxed{2}."),  # MATH
        ({"problem": "?", "solution": "So 2.", "answer": "2", "unique_id": "u"}, "2"),  # MATH-500
        ({"ID": "x", "Problem": "?", "Solution": "…", "Answer": 204}, "204"),  # AIME
        ({"problem": "?", "answer": 142.0}, "142"),  # AMC
        ({"problem": "?", "expected_answer": "2"}, "2"),  # OpenMathInstruct
        ({"question": "?", "answer": None, "target": "2"}, "2"),
        ({"input": "?", "target": 1234567.25}, "1234567.25"),  # inspect, lm-eval
        ({"text": "?", "gold": "2"}, "2"),
    ],
)
def test_names_that_data_sets_use(record: dict[str, object], answer: str) -> None:
    found = problems_or_text(json.dumps(record).encode(), "p.jsonl", "maths")
    assert isinstance(found, Problems)
    assert [(p.text, p.answer) for p in found.problems] == [("?", answer)]


BAD = [
    '"text"',
    "5",
    "null",
    '{"id": "x", "problem": 5}',
    '{"id": "x", "problem": null}',
    '{"id": "x", "problem": ["1 + 1?"]}',
    '{"id": 1.5, "problem": "1 + 1?"}',
    '{"id": true, "problem": "1 + 1?"}',
    '{"id": {"a": 1}, "problem": "1 + 1?"}',
    '{"id": "x", "problem": "1 + 1?", "answer": NaN}',
    '{"id": "x", "problem": "1 + 1?", "answer": -Infinity}',
    '{"id": "x", "problem": "1 + 1?", "answer": 1e999}',
    '{"id": "x", "problem": "1 + 1?", "answer": true}',
    '{"id": "x", "problem": "1 + 1?", "answer": %s}' % ("9" * 5000),
    '{"id": "x", "problem": "1 + 1?", "answer": "He buys some.\\nHe sells some."}',
    '{"id": "x", "problem": "1 + 1?", "task": 5}',
    '{"id": "x", "problem": "1 + 1?", "task": "mats"}',
    '{"id": "x", "problem": "\\t\\n"}',
    '{"id": "a", "problem": "1 + 1?"}',  # an id twice
    '{"id": "x", "problem": "1 + \\udfff"}',
    '{"a":' * 5000 + "1" + "}" * 5000,
    "\x00",
]


@pytest.mark.parametrize("bad", BAD, ids=[bad[:50] for bad in BAD])
def test_one_bad_record_costs_itself(bad: str) -> None:
    good = [json.dumps(row) for row in ROWS]
    lines = "\n".join([good[0], bad, good[1]])
    array = "[\n" + ",\n".join([good[0], bad, good[1]]) + "\n]"
    for content, line in ((lines, 2), (array, 3)):
        found = problems_or_text(content.encode(), "p.json", "maths")
        assert isinstance(found, Problems)
        assert [problem.id for problem in found.problems] == ["a", "b"]
        assert [broken.line for broken in found.broken] == [line]
        [sentence] = found.told()
        assert sentence.startswith(f"p.json, line {line}: ")
        assert len(sentence) < 300
        sentence.encode()


def test_a_torn_array_keeps_what_is_whole() -> None:
    whole = json.dumps(ROWS, indent=1)
    for torn in (whole[:-30], whole + " and more", whole.replace('"b",', '"b"')):
        found = problems_or_text(torn.encode(), "p.json", "maths")
        assert isinstance(found, Problems)
        assert found.problems[0].id == "a"
        assert len(found.broken) == 1
        assert found.broken[0].line > 1


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("x,1, 2 and 3: which is odd?,1", "it has 4 cells, and the header has 3"),
        ("x,?", "it has 2 cells, and the header has 3"),
        (",,", "it has no problem"),
        ('x,"never closed,1', "it is no row of a table"),
        ('x,"closed" early,1', "it is no row of a table"),
        ("a,again,1", "is that of line 2 already"),
        (b"x,\xff\xfe,1", "not UTF-8"),
        ("x,?,one thing. And another.", "no answer can be read"),
    ],
)
def test_one_bad_row_costs_itself(tmp_path: Path, row: str | bytes, named: str) -> None:
    file = write(tmp_path / "p.csv", "id,question,gold", 'a,"1 +\n1?",2', row, "b,2 + 2?,4", "")
    found = read_problems(file)
    assert [(p.id, p.text) for p in found.problems] == [("a", "1 +\n1?"), ("b", "2 + 2?")]
    assert [(broken.line, named in broken.why) for broken in found.broken] == [(4, True)]


def test_reading_takes_linear_time() -> None:
    for content in ("[" + '{"problem": "?"},' * 50_000, '{"problem": "?"}\n' * 50_000):
        started = time.process_time()
        problems_or_text(content.encode(), "p.json", "maths")
        assert time.process_time() - started < 4


def test_stdin_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(LINES.encode())))
    assert [p.id for p in read_problems(Path("-")).problems] == ["a", "b"]


def test_where_answers_are_needed_every_line_must_have_one(tmp_path: Path) -> None:
    for name, content in (("p.jsonl", LINES), ("p.json", json.dumps(ROWS)), ("p.csv", TABLE)):
        with pytest.raises(InputError, match=r"1 of 2 problems .* \(first: 'b', line [123]\)"):
            read_graded(write(tmp_path / name, content))
    bad = "id,question,answer\na,?,2\nb,?,One. Two."
    with pytest.raises(InputError, match=r"p.csv, line 3: no answer can be read"):
        read_graded(write(tmp_path / "p.csv", bad))
