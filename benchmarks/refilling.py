"""Whether a beam that is refilled to N, as the reference's is, is right more often than ours.

    python -m benchmarks.refilling ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/refilling.json

Both rules of beam search run on the same problems, engine and verifier, by this project's driver,
so that nothing but the rule differs (`benchmarks.search_speed` compares the ways of running).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np

from benchmarks.provenance import provenance
from benchmarks.search_speed import Limits, answers_right, open_models
from router.intervals import Figure, mean_figure, resamples
from router.models.types import Chain, Problem
from router.opening import Models
from router.problem_files import read_problems
from router.strategies.base import Candidate
from router.strategies.beam_search import BeamSearch, expand, shares
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.scoring import candidates, step_values
from router.strategies.search import Search

N = 16
LIMITS = Limits(width=4, depth=8, max_tokens=512, temperature=0.8)
IN_FLIGHT = 16


@dataclass(frozen=True)
class Refilled(BeamSearch):
    """Beam search as huggingface/search-and-learn at 6f81cac has it (`search/beam_search.py`).

    A beam that ended leaves, equal ones are dropped, and the best N/M are continued N times in all,
    until all have ended; the first N that ended are the candidates.
    """

    name: ClassVar[str] = "refilled"

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:  # noqa: ARG002
        how = search.aggregation(self.aggregate)
        done: list[Chain] = []
        beam = [(search.root, self.n)]
        for round_ in range(self.depth):
            grown = await expand(search, beam, whole=round_ == self.depth - 1)
            done += [path for path in grown if path.finished]
            running = list({path.text: path for path in grown if not path.finished}.values())
            if not running:
                break
            values = await step_values(search, running, how)
            order = sorted(range(len(running)), key=lambda i: -values[i])
            kept = [running[i] for i in order[: self.n // self.width]]
            beam = list(zip(kept, shares(self.n, kept), strict=True))
        return await candidates(search, done[: self.n], scored=True)


async def compare(problems: Sequence[Problem], models: Models) -> dict[str, Any]:
    """Right answers of both rules on every problem, and their paired difference."""
    size: dict[str, Any] = {"n": N, "width": LIMITS.width, "depth": LIMITS.depth}
    places = asyncio.Semaphore(IN_FLIGHT)
    verifier = models.verifier
    assert verifier is not None

    async def one(problem: Problem, rule: BeamSearch) -> tuple[bool, int]:
        async with places:
            budget = Budget(N * LIMITS.depth)  # refilling may spend N in every round
            found = await run_search(
                rule, problem, models.generator, verifier, budget, LIMITS.sampling
            )
        right = await answers_right(problem, found.candidates, verifier.info.aggregation)
        click.echo(f"{problem.id}: {rule.name} {'right' if right else 'wrong'}", err=True)
        return right, found.usage.sampled_tokens or 0

    rules = (BeamSearch(**size), Refilled(**size))
    done = await asyncio.gather(*(one(problem, rule) for problem in problems for rule in rules))
    # Problems, rules, and (right, tokens).
    table = np.array(done, float).reshape(len(problems), len(rules), 2)
    weights = resamples(len(problems), seed=0)
    found: dict[str, Any] = {
        rule.name: {
            **asdict(mean_figure(table[:, at, 0], weights)),
            "sampled_tokens_per_problem": round(table[:, at, 1].mean(), 1),
            "right": table[:, at, 0].astype(int).tolist(),
        }
        for at, rule in enumerate(rules)
    }
    difference = mean_figure(table[:, 0, 0] - table[:, 1, 0], weights)
    return {**found, "difference": asdict(difference)}


async def run(problems: Sequence[Problem], engine: str) -> dict[str, Any]:
    async with aclosing(await open_models(engine)) as models:
        return await compare(problems, models)


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--engine", default="vllm", show_default=True)
@click.option("--count", default=64, show_default=True, help="Problems, the file's first.")
def main(problems: Path, output: Path, engine: str, count: int) -> None:
    """Compare both rules and write JSON."""
    chosen = [problem for problem in read_problems(problems).problems if problem.answer][:count]
    found = asyncio.run(run(chosen, engine))
    record = {
        **provenance(),
        "n": N,
        **asdict(LIMITS),
        "problems": [problem.id for problem in chosen],
        **found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record) + "\n")
    click.echo(f"difference, ours less refilled: {Figure(**found['difference'])}")


if __name__ == "__main__":
    main()
