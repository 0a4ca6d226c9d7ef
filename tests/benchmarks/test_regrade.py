from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.regrade import regrade
from router.models.base import GeneratorInfo
from router.models.errors import InputError
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.rollouts.export import export_store, open_rollouts
from router.rollouts.runs import Origin, StoredCandidate
from router.rollouts.store import RolloutStore

QUESTION = "Which is even?\n(A) 1\n(B) 2"


def sampled(tmp_path: Path, text: str) -> Path:
    """One solution of a lettered question, sampled as if it were mathematics."""
    origin = Origin.of(GeneratorInfo("tiny", "vllm", "plain"), Sampling())
    with RolloutStore.create(tmp_path / "s.sqlite", origin) as store:
        store.add_problems([Problem("q", text, "B")])
        candidate = StoredCandidate(("It is (B) 2.",), "stop", "2", False)
        store.add_samples("q", [candidate], Usage(generations=1))
        export_store(store, tmp_path / "old.jsonl.gz")
    return tmp_path / "old.jsonl.gz"


def problems(tmp_path: Path) -> Path:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"id": "q", "problem": QUESTION, "answer": "B", "task": "choice"}))
    return file


def test_answers_are_read_by_the_task_that_a_problem_has_got(tmp_path: Path) -> None:
    old = sampled(tmp_path, f"{QUESTION}\n\nAnswer with the letter of the correct option.")
    new = tmp_path / "new.jsonl.gz"
    assert regrade(old, problems(tmp_path), new) == (1, 1)
    with open_rollouts(new) as store:
        [(problem, (candidate,))] = store.samples()
    assert (problem.text, problem.task) == (QUESTION, "choice")
    assert (candidate.answer, candidate.correct) == ("B", True)


def test_other_words_are_another_problem(tmp_path: Path) -> None:
    old = sampled(tmp_path, QUESTION)
    with pytest.raises(InputError, match="in other words"):
        regrade(old, problems(tmp_path), tmp_path / "new.jsonl.gz")
