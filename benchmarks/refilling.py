"""Whether a beam that is refilled to N, as the reference's is, is right more often than ours.

    python -m benchmarks.refilling ../shared/data/gsm8k_dev.jsonl --count 64 \
        --output benchmarks/results/refilling.json [--engine fake]

Both rules of beam search run on the same problems, engine and verifier, by this project's driver,
so that nothing but the rule differs (`benchmarks.search_speed` compares the ways of running).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np

from benchmarks.provenance import provenance
from benchmarks.search_speed import Limits, answers_right
from models.fakes import fake_problems
from models.types import Path as Solution
from models.types import Problem
from models.verifiers.trained_head import shipped_head
from models.weights.find import EMBEDDED
from router.intervals import mean_figure, resamples
from router.io import read_problems
from router.opening import FAKE, Models, load_models
from strategies.base import Candidate
from strategies.beam_search import BeamSearch, expand
from strategies.budget import Budget
from strategies.driver import run_search
from strategies.scoring import candidates, step_values
from strategies.search import Search

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
        done: list[Solution] = []
        beam = [(search.root, self.n)]
        for round_ in range(self.depth):
            grown = await expand(search, beam, whole=round_ == self.depth - 1)
            done += [path for path in grown if path.finished]
            running = list({path.text: path for path in grown if not path.finished}.values())
            if not running:
                break
            values = await step_values(search, running, how)
            best = sorted(range(len(running)), key=lambda i: -values[i])[: self.n // self.width]
            beam = [
                (running[i], len(range(place, self.n, len(best)))) for place, i in enumerate(best)
            ]
        return await candidates(search, done[: self.n], scored=True)


async def compare(
    problems: Sequence[Problem], models: Models, n: int, limits: Limits
) -> dict[str, Any]:
    """Right answers of both rules on every problem, and their paired difference."""
    size = {"n": n, "width": limits.width, "depth": limits.depth}
    rules = (BeamSearch(**size), Refilled(**size))
    places = asyncio.Semaphore(IN_FLIGHT)
    verifier = models.verifier
    assert verifier is not None

    async def one(problem: Problem, rule: BeamSearch) -> tuple[bool, int]:
        async with places:
            # Refilling may spend N in every round.
            budget = Budget(n * limits.depth)
            found = await run_search(
                rule, problem, models.generator, verifier, budget, limits.sampling
            )
        right = await answers_right(problem, found.candidates, verifier.info.aggregation)
        click.echo(f"{problem.id}: {rule.name} {'right' if right else 'wrong'}", err=True)
        return right, found.usage.sampled_tokens or 0

    done = await asyncio.gather(*(one(problem, rule) for problem in problems for rule in rules))
    weights = resamples(len(problems), seed=0)
    right = {
        rule.name: np.array([right for right, _ in done[at::2]], float)
        for at, rule in enumerate(rules)
    }
    ours, refilled = right.values()
    return {
        name: {
            **asdict(mean_figure(each, weights)),
            "sampled_tokens_per_problem": round(sum(t for _, t in done[at::2]) / len(problems), 1),
            "right": each.astype(int).tolist(),
        }
        for at, (name, each) in enumerate(right.items())
    } | {"difference": asdict(mean_figure(ours - refilled, weights))}


async def run(problems: Sequence[Problem], engine: str, n: int, limits: Limits) -> dict[str, Any]:
    head = FAKE if engine == FAKE else str(shipped_head(EMBEDDED.name))
    models = await load_models(None, head, model=None, engine=engine, endpoints=(), prompt=None)
    assert models.verifier is not None
    try:
        return await compare(problems, models, n, limits)
    finally:
        await models.generator.aclose()
        await models.verifier.aclose()


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--engine", default="vllm", show_default=True)
@click.option("--count", default=64, show_default=True, help="Problems; on `fake`, sums.")
@click.option("--n", default=16, show_default=True)
@click.option("--width", default=4, show_default=True)
@click.option("--depth", default=8, show_default=True)
def main(
    problems: Path, output: Path, engine: str, count: int, n: int, width: int, depth: int
) -> None:
    """Compare both rules and write JSON."""
    limits = Limits(width, depth, max_tokens=512, temperature=0.8)
    if engine == FAKE:
        chosen = fake_problems(count)
    else:
        chosen = [problem for problem in read_problems(problems).problems if problem.answer][:count]
    found = asyncio.run(run(chosen, engine, n, limits))
    record = {
        "provenance": provenance(),
        "n": n,
        **asdict(limits),
        "problems": [problem.id for problem in chosen],
        **found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record) + "\n")
    click.echo(
        json.dumps(
            {name: {k: v for k, v in one.items() if k != "right"} for name, one in found.items()},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
