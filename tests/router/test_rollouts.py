from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.prompts import PROMPTS
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.rollouts.export import export_store, import_store, open_rollouts
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill
from router.rollouts.samples_jsonl import import_samples
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.tasks import posed

GENERATOR = GeneratorInfo("tiny", "vllm", "qwen-math")
VERIFIER = VerifierInfo("prm", "qwen-prm", "last")
ORIGIN = Origin.of(GENERATOR, Sampling())
PROBLEM = Problem("p", "1 + 1?", "2", "unit")


def _candidate(answer: str | None = "2") -> StoredCandidate:
    return StoredCandidate(
        ("First.\n\n", "So \\boxed{2}."),
        "stop",
        answer,
        answer == "2",
        5,
        (0.5, 0.25),
        (2, 3),
        (1, 2, 3, 151_000, 5),
        (-0.25, -1.5),
    )


def _run(configuration: str = "beam_search(n=4)", repeat: int = 0) -> Run:
    usage = Usage(generations=4, sampled_tokens=20, prompt_tokens=None, flops=None, seconds=0.5)
    return Run("p", configuration, repeat, "completed", usage, (_candidate(), _candidate(None)))


def _store(path: Path, origin: Origin = ORIGIN) -> RolloutStore:
    store = RolloutStore.create(path, origin)
    store.add_problems([PROBLEM])
    return store


def test_a_store_from_before_log_probabilities_is_read_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    with _store(file) as store:
        store.add(_run())
    with sqlite3.connect(file) as old:
        old.execute("ALTER TABLE candidates DROP COLUMN logprobs")
    old.close()
    with RolloutStore.read(file) as store:
        assert [c.logprobs for run in store.runs() for c in run.candidates] == [None, None]
    with RolloutStore.create(file, ORIGIN) as store:
        store.add(_run(repeat=1))
        known = [c.logprobs for run in store.runs() for c in run.candidates]
    assert known == [None, None, (-0.25, -1.5), (-0.25, -1.5)]


def test_a_problems_task_is_kept_and_its_text_stays_its_own(tmp_path: Path) -> None:
    letters = Problem("letters", "Which? (A) 1 (B) 2", "B", task="choice")
    file = tmp_path / "out.jsonl"
    with _store(tmp_path / "r.db") as store:
        store.add_problems([posed(letters)])
        assert store.problems() == [PROBLEM, letters]
        with pytest.raises(InputError, match="or as another task"):
            store.add_problems([replace(letters, task="text")])
        export_store(store, file)
    with open_rollouts(file) as store:
        assert store.problems() == [PROBLEM, letters]


def test_stores_and_exports_from_before_tasks_are_maths(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        export_store(store, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[1].pop("task") == "maths"
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_rollouts(tmp_path / "old.jsonl") as store:
        assert store.problems() == [PROBLEM]
    with sqlite3.connect(tmp_path / "r.db") as old:
        old.execute("ALTER TABLE problems DROP COLUMN task")
    old.close()
    with RolloutStore.read(tmp_path / "r.db") as store:
        assert store.problems() == [PROBLEM]
    letters = Problem("letters", "Which?", "B", task="choice")
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        store.add_problems([PROBLEM, letters])
        assert store.problems() == [PROBLEM, letters]


def test_imported_samples_are_read_and_graded_by_their_problems_task(tmp_path: Path) -> None:
    samples = [{"text": text, "finish_reason": "stop"} for text in ("B) 42", "(A)", "I give up")]
    record = {"id": "a", "problem": "Which?", "answer": "(B)", "task": "choice"}
    (tmp_path / "s.jsonl").write_text(json.dumps({**record, "samples": samples}) + "\n")
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        import_samples(store, tmp_path / "s.jsonl", {}, PROMPTS["qwen-math"])
        ((problem, pool),) = store.samples()
    assert problem.task == "choice"
    assert [(c.answer, c.correct) for c in pool] == [("B", True), ("A", False), (None, False)]


def test_runs_come_back_as_they_were_stored(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        store.add(_run())
    with RolloutStore.read(tmp_path / "r.db") as store:
        assert list(store.runs()) == [_run()]
        assert store.problems() == [PROBLEM]
        assert store.origin == ORIGIN


async def test_a_stored_candidate_is_the_token_exact_path_of_its_search() -> None:
    (problem,) = fake_problems(1)
    outcome = await run_search(
        BestOfN(2), problem, FakeGenerator(), FakeVerifier(), Budget(2), Sampling(), seed=1
    )
    found = outcome.candidates[0]
    stored = StoredCandidate.of(found.chain, found.answer, True, found.scores)
    back = StoredCandidate.from_row(stored.to_row()).chain(problem)
    assert [s.text for s in back.steps] == [s.text for s in found.chain.steps]
    assert [s.token_ids for s in back.steps] == [s.token_ids for s in found.chain.steps]
    assert back.finished
    assert back.steps[0].finish == "step"
    assert stored.tokens == found.chain.tokens


def test_samples_form_one_pool_in_the_order_they_came(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        first = [_candidate("2"), _candidate("3")]
        second = [_candidate("4")]
        store.add_samples("p", first, Usage(generations=2))
        store.add(_run())
        store.add_samples("p", second, Usage(generations=1))
        ((problem, pool),) = store.samples()
        assert problem == PROBLEM
        assert [c.answer for c in pool] == ["2", "3", "4"]
        assert store.counts() == {("p", SAMPLES): 3, ("p", "beam_search(n=4)"): 1}


def test_scores_may_be_added_later(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        store.add(replace(_run(), candidates=(replace(_candidate(), scores=None),) * 2))
        store.add(_run(repeat=1))
        scored = (replace(_candidate(), scores=(0.1, 0.2)), replace(_candidate(), scores=None))
        run = replace(_run(), candidates=scored, usage=Usage(generations=4, verifier_tokens=10))
        store.set_scores(run)
        assert list(store.runs()) == [run, _run(repeat=1)]


def test_what_is_stored_twice_or_unknown_is_refused(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        store.add(_run())
        with pytest.raises(InputError, match="stored already"):
            store.add(_run())
        with pytest.raises(InputError, match="not registered"):
            store.add(replace(_run(), problem="other"))
        with pytest.raises(InputError, match="another text or answer"):
            store.add_problems([replace(PROBLEM, answer="3")])
        assert list(store.runs()) == [_run()]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Origin.of(replace(GENERATOR, model="big"), Sampling()), "model was 'tiny'"),
        (Origin.of(replace(GENERATOR, prompt="plain"), Sampling()), "prompt was 'qwen-math'"),
        (Origin.of(GENERATOR, Sampling(temperature=0.1)), "temperature was 0.8 and is now 0.1"),
    ],
)
def test_rollouts_of_another_origin_are_refused(tmp_path: Path, other: Origin, named: str) -> None:
    _store(tmp_path / "r.db").close()
    for opener in (RolloutStore.create, RolloutStore.read):
        with pytest.raises(InputError, match=named) as caught:
            opener(tmp_path / "r.db", other)
        assert "give another store" in str(caught.value)


def test_a_store_takes_its_first_verifier_and_refuses_the_next(tmp_path: Path) -> None:
    _store(tmp_path / "r.db").close()
    with RolloutStore.create(tmp_path / "r.db", Origin.of(GENERATOR, Sampling(), VERIFIER)) as s:
        assert s.origin.verifier == "prm"
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as s:
        assert s.origin.verifier == "prm"
    retrained = replace(VERIFIER, name="prm@2")
    with pytest.raises(InputError, match="verifier was 'prm' and is now 'prm@2'"):
        RolloutStore.create(tmp_path / "r.db", Origin.of(GENERATOR, Sampling(), retrained))
    other = replace(VERIFIER, aggregation="min")
    with pytest.raises(InputError, match="aggregation was 'last' and is now 'min'"):
        RolloutStore.create(tmp_path / "r.db", Origin.of(GENERATOR, Sampling(), other))


def test_a_count_of_weights_is_no_part_of_the_origin_and_the_newer_wins(tmp_path: Path) -> None:
    """Stores of before 2026-11-26 count an embedding that multiplies nothing."""
    path = tmp_path / "r.db"
    for counted, known in (
        (630_167_424, 630_167_424),
        (494_032_768, 494_032_768),
        (None, 494_032_768),
    ):
        generator = replace(GENERATOR, parameters=counted)
        with RolloutStore.create(path, Origin.of(generator, Sampling())) as s:
            assert s.origin.parameters == known
    with RolloutStore.read(path) as s:
        assert s.origin.parameters == 494_032_768


def test_weights_are_known_by_their_fingerprint_where_both_are_known() -> None:
    ours, theirs = replace(ORIGIN, fingerprint="a1"), replace(ORIGIN, fingerprint="b2")
    with pytest.raises(InputError, match="fingerprint was 'a1' and is now 'b2'"):
        ours.joined(theirs)
    assert ORIGIN.joined(ours).fingerprint == ours.joined(ORIGIN).fingerprint == "a1"
    assert ours.joined(replace(ours, model="a copy")).model == ORIGIN.model
    with pytest.raises(InputError, match="model was"):
        ORIGIN.joined(replace(theirs, model="a copy"))


def test_the_engine_is_no_part_of_the_origin() -> None:
    assert Origin.of(replace(GENERATOR, engine="transformers"), Sampling()) == ORIGIN


def test_one_writer_many_readers(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        store.add(_run())
        with pytest.raises(InputError, match="another process is writing"):
            RolloutStore.create(tmp_path / "r.db", ORIGIN)
        with RolloutStore.read(tmp_path / "r.db") as reader:
            assert len(list(reader.runs())) == 1
            store.add(_run(repeat=1))
            assert len(list(reader.runs())) == 2
    _store(tmp_path / "r.db").close()


def test_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be taken for a header of one" * 20)
    with pytest.raises(InputError, match="cannot be opened"):
        RolloutStore.create(text, ORIGIN)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (text)")
    with pytest.raises(InputError, match="no rollout store"):
        RolloutStore.create(other, ORIGIN)
    with pytest.raises(InputError, match="no rollout store at"):
        RolloutStore.read(tmp_path / "missing.db")
    _store(tmp_path / "r.db").close()
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(InputError, match="schema 99, and this version reads 1"):
        RolloutStore.read(tmp_path / "r.db")


def test_a_killed_writer_loses_only_the_run_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    program = """
        import sys
        from pathlib import Path
        from tests.router.test_rollouts import _store, _run
        store = _store(Path(sys.argv[1]))
        repeat = 0
        while True:
            store.add(_run(repeat=repeat))
            print(repeat, flush=True)
            repeat += 1
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    last = -1
    while last < 20:
        last = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    last = int(rest[-1]) if rest else last
    with RolloutStore.create(path, ORIGIN) as store:  # the lock died with its owner
        repeats = [run.repeat for run in store.runs()]
        assert repeats in (list(range(last + 1)), list(range(last + 2)))
        assert all(run == _run(repeat=run.repeat) for run in store.runs())
        store.add(_run(repeat=len(repeats)))


def _pilot(path: Path) -> None:
    samples = [
        {"text": "One.\n\nSo \\boxed{19}.", "tokens": 9, "finish_reason": "stop"},
        {"text": "So 20 and then", "tokens": 512, "finish_reason": "length"},
    ]
    with gzip.open(path, "wt") as out:
        out.write(json.dumps({"id": "a", "answer": 19.0, "samples": samples}) + "\n")


def test_samples_are_imported_graded_and_exported_again(tmp_path: Path) -> None:
    _pilot(tmp_path / "pilot.jsonl.gz")
    problem = Problem("a", "How many cats?", "19")
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        split = PROMPTS["qwen-math"]
        assert import_samples(store, tmp_path / "pilot.jsonl.gz", {"a": problem}, split) == 2
        ((_, pool),) = store.samples()
        assert [(c.answer, c.correct, c.tokens) for c in pool] == [
            ("19", True, 9),
            (None, False, 512),
        ]
        assert pool[0].steps == ("One.\n\n", "So \\boxed{19}.")


def test_prompts_are_of_registered_problems(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        assert store.prefills() == {}
        with pytest.raises(InputError, match="'nobody' is not registered"):
            store.add_prefill("nobody", StoredPrefill(1, (0.0,)))


def test_a_store_is_exported_and_read_back_as_it_was(tmp_path: Path) -> None:
    scored = Origin.of(GENERATOR, Sampling(stop=("END",)), VERIFIER)
    file = tmp_path / "out.jsonl.gz"
    with _store(tmp_path / "r.db", scored) as store:
        store.add_problems([Problem("later", "¿1 + 2?", "3")])
        store.add(_run())
        store.add(replace(_run("dvts(n=4)"), candidates=(), ended="deadline"))
        unscored = replace(_candidate(None), scores=None, token_ids=None, step_tokens=None)
        store.add_samples("p", [_candidate(), unscored], Usage(generations=2))
        store.add_prefill("later", StoredPrefill(7, (0.5, -3.0)))
        store.add_prefill("later", StoredPrefill(16, (0.25, -2.0)))
        before = [list(store.runs()), store.problems(), store.prefills(), store.origin]
        assert store.prefills() == {"later": StoredPrefill(16, (0.25, -2.0))}
        assert export_store(store, file) == 4
        once = file.read_bytes()
        export_store(store, file)
        assert file.read_bytes() == once
    with open_rollouts(file) as exported, open_rollouts(tmp_path / "r.db") as same:
        for found in (exported, same):
            read = [list(found.runs()), found.problems(), found.prefills(), found.origin]
            assert read == before
    assert import_store(file, tmp_path / "again.db") == 4
    with pytest.raises(InputError, match=r"line 5: .*stored already"):
        import_store(file, tmp_path / "again.db")
    with RolloutStore.create(tmp_path / "again.db", scored) as store:
        store.add(_run(repeat=1))  # it goes on where the other one stopped
        assert len(list(store.runs())) == 4


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([], "no exported rollout store"),
        ([{"id": "a", "samples": []}], "no exported rollout store"),
        ([{"schema": 99, "origin": {}}], "no exported rollout store of schema 1"),
        ([{"schema": 1, "origin": {"model": "tiny"}}], "line 1: bad origin"),
        ([{"schema": 1, "origin": ORIGIN.to_dict()}, {"id": "a"}], "line 2: record has no non"),
        (
            [{"schema": 1, "origin": ORIGIN.to_dict()}, {"candidates": [{"steps": 1}]}],
            "line 2: bad record",
        ),
    ],
)
def test_a_broken_export_names_its_line_and_adds_nothing(
    tmp_path: Path, lines: list[dict[str, object]], named: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=named):
        import_store(file, tmp_path / "r.db")


def test_a_torn_export_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl.gz"
    with _store(tmp_path / "r.db") as store:
        store.add(_run())
        export_store(store, file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read"), open_rollouts(file):
        pass


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        ('{"id": "b", "samples": []}', "'b' has no text"),
        ('{"id": "b", "problem": "x", "samples": []}', "no gold answer"),
        ('{"id": "b", "problem": "x", "answer": "1"}', "line 1: bad record: KeyError"),
    ],
)
def test_a_broken_import_names_its_line_and_adds_nothing(
    tmp_path: Path, line: str, named: str
) -> None:
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        with pytest.raises(InputError, match=named):
            import_samples(store, tmp_path / "bad.jsonl", {}, PROMPTS["plain"])
        assert store.problems() == []
