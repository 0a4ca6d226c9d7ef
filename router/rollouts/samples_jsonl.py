"""Samples from elsewhere: JSON Lines, one problem each, `id, answer, samples: [{text, …}]`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.models.errors import InputError
from router.models.prompts import Prompt
from router.models.steps import split_text
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Step
from router.models.usage import Usage
from router.rollouts.lines import read_lines
from router.rollouts.runs import StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.tasks import check_gold, get_task, posed


def import_samples(
    store: RolloutStore,
    file: Path,
    problems: Mapping[str, Problem],
    split: Prompt | ChainEncoder,
) -> int:
    """Add the samples of a `.jsonl` or `.jsonl.gz` file to the pools of their problems.

    problems: where a line without a `problem` text finds it, by id.
    split: cuts solutions into steps, token-exactly with an encoder where a sample has `token_ids`.

    Returns:
        the number of samples added.

    Raises:
        InputError: a broken line (named by its number), an unknown problem, or a gold answer that
            cannot be read.
    """
    with store.transaction():
        count = 0
        for number, record in read_lines(file):
            try:
                problem = _problem(record, problems)
                candidates = tuple(
                    _candidate(problem, sample, split) for sample in record["samples"]
                )
            except (KeyError, TypeError) as error:
                raise InputError(f"{file} line {number}: bad record: {error!r}") from error
            except InputError as error:
                raise InputError(f"{file} line {number}: {error}") from error
            store.add_problems([problem])
            store.add_samples(problem.id, candidates, _usage(problem, candidates, split))
            count += len(candidates)
    return count


def _problem(record: dict[str, Any], problems: Mapping[str, Problem]) -> Problem:
    if "problem" in record:
        problem = Problem.from_dict(record)
    elif record["id"] in problems:
        problem = problems[record["id"]]
    else:
        raise InputError(f"problem {record['id']!r} has no text here and is not among the problems")
    check_gold(problem)
    return problem


def _candidate(
    problem: Problem, sample: dict[str, Any], split: Prompt | ChainEncoder
) -> StoredCandidate:
    text, finish, ids = sample["text"], sample["finish_reason"], sample.get("token_ids")
    if finish not in ("stop", "length"):
        raise InputError(f"finish_reason must be stop or length, not {finish!r}")
    steps: tuple[Step, ...]
    if ids is not None and isinstance(split, ChainEncoder):
        steps = split.split(ids, finish)
    else:
        prompt = split.prompt if isinstance(split, ChainEncoder) else split
        steps = split_text(text, finish, prompt.delimiter)
    task = get_task(problem.task)
    answer = task.read(text, finish == "length")
    assert problem.answer is not None
    stored = StoredCandidate.of(
        Chain(problem).extend(*steps),
        answer,
        task.correct_sync(answer, problem.answer) is True,
        sample.get("scores"),
    )
    return stored.with_tokens(sample.get("tokens"), ids)


def _usage(
    problem: Problem, candidates: tuple[StoredCandidate, ...], split: Prompt | ChainEncoder
) -> Usage:
    tokens = [c.tokens for c in candidates if c.tokens is not None]
    encoder = split if isinstance(split, ChainEncoder) else None
    return Usage(
        generations=len(candidates),
        sampled_tokens=sum(tokens) if len(tokens) == len(candidates) else None,
        prompt_tokens=None if encoder is None else len(encoder.prompt_ids(posed(problem))),
        prompt_tokens_cached=None if encoder is None else 0,
        flops=None,
        money=None,
    )
