"""`router check`: open the models, send one problem through them, and say what works."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from router.choosing import AUTO
from router.commands.common import option, with_routing
from router.core import Router
from router.models.base import Generator, Renders, Verifier, VerifierInfo
from router.models.errors import RouterError
from router.models.types import Chain, Problem, Sampling
from router.opening import Models

_PROBLEM: Final = Problem.of_text(
    "A box holds 12 red pens and 35 blue ones. 7 of them are taken out. How many are left?"
)
_SOLUTIONS: Final = 4
_TOKENS: Final = 96  # of each solution, at most
_SHIPPED: Final = "the bundle that comes with `router`"
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Findings:
    """What one problem showed. Null is what nobody says.

    opened: seconds until the models were open. logprobs: whether sampled tokens have them.
    tokens_per_second: sampled, of `_SOLUTIONS` at once. score: of the first step.
    memory: bytes, of this process and those below it, and of the GPU in use.
    """

    model: str
    engine: str
    opened: float
    context: int | None
    prompt: str
    rendering: str | None
    seeds: bool
    logprobs: bool
    tokens_per_second: float | None
    verifier: VerifierInfo | None
    score: float | None
    score_seconds: float | None
    memory: int | None
    gpu_memory: int | None
    bundle: str | None

    def lines(self) -> list[tuple[str, str]]:
        """Name and finding of each line to show."""
        written = f", written by {self.rendering}" if self.rendering else ""
        speed = self.tokens_per_second
        return [
            ("generator", f"{self.model} on {self.engine}, opened in {self.opened:.1f} s"),
            ("context", f"{self.context:,} tokens" if self.context else "the engine does not say"),
            ("prompt", self.prompt + written),
            ("seeds", "yes" if self.seeds else "no: searches differ from run to run"),
            ("log-probs", "yes" if self.logprobs else "no"),
            ("verifier", self._verifier()),
            ("strategy", f"decided by {self.bundle}" if self.bundle else "best-of-N: no bundle"),
            ("speed", f"{speed:.0f} tokens a second" if speed else "the engine counts no tokens"),
            ("memory", self._memory()),
        ]

    def _verifier(self) -> str:
        if self.verifier is None:
            return "none: answers are chosen by majority"
        info = self.verifier
        return (
            f"{info.name}, format {info.format}, {info.aggregation} of the steps;"
            f" scored one {self.score:.2f} in {self.score_seconds:.2f} s"
        )

    def _memory(self) -> str:
        used = [
            f"{size / _GIB:.1f} GiB {where}"
            for size, where in ((self.memory, "here"), (self.gpu_memory, "of the GPU"))
            if size
        ]
        return ", ".join(used) or "not known on this system"


@click.command()
@with_routing
@option("--deadline", type=float, metavar="SECONDS", help="Time for all of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(router: Router, deadline: float | None, as_json: bool) -> None:
    """Open the models, send one problem through them, and say what works.

    Takes the options of `router solve`. Exit code: 0 if generator and verifier work, so that it
    serves as a readiness probe; else 1, or 2 for bad input, with one line on what does not.
    """
    try:
        findings = _found(router, deadline)
    except RouterError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "error": str(error)}))
        raise
    finally:
        router.close()
    if as_json:
        click.echo(json.dumps({"ok": True, **asdict(findings)}))
        return
    for name, finding in findings.lines():
        click.echo(f"{name:<10} {finding}")
    click.echo("works")


def _found(router: Router, deadline: float | None) -> Findings:
    """Raises RouterError: something does not work, or not in time."""

    async def found() -> Findings:
        async with asyncio.timeout(deadline):
            return await router.arun(partial(_inspect, router, time.monotonic()))

    try:
        return asyncio.run(found())
    except TimeoutError as error:
        raise RouterError(f"the models have not answered within {deadline:g} seconds") from error


async def _inspect(router: Router, started: float, models: Models) -> Findings:
    opened = time.monotonic() - started
    generator = models.generator
    chain, logprobs, speed = await _sampled(generator)
    score = seconds = None
    if models.verifier is not None:
        score, seconds = await _scored(models.verifier, chain)
    fitted = await asyncio.to_thread(lambda: router.fitted)
    own = router.bundle == AUTO
    info = generator.info
    return Findings(
        model=info.model,
        engine=info.engine,
        opened=opened,
        context=info.context,
        prompt=info.prompt,
        rendering=generator.rendering if isinstance(generator, Renders) else None,
        seeds=info.seeds,
        logprobs=logprobs,
        tokens_per_second=speed,
        verifier=None if models.verifier is None else models.verifier.info,
        score=score,
        score_seconds=seconds,
        memory=_memory(),
        gpu_memory=_gpu_memory(),
        bundle=None if fitted is None else _SHIPPED if own else str(router.bundle),
    )


async def _sampled(generator: Generator) -> tuple[Chain, bool, float | None]:
    """A first step, whether it has log-probabilities, and sampled tokens a second."""
    root = Chain(_PROBLEM)
    first = await generator.sample(root, 1, Sampling("step", max_tokens=_TOKENS))
    (step,) = first.continuations[0].steps
    started = time.monotonic()
    whole = await generator.sample(root, _SOLUTIONS, Sampling(max_tokens=_TOKENS))
    seconds = time.monotonic() - started
    counts = [continuation.tokens for continuation in whole.continuations]
    known = [count for count in counts if count is not None]
    speed = sum(known) / max(seconds, 1e-9) if len(known) == len(counts) else None
    return root.extend(step), step.logprob is not None, speed


async def _scored(verifier: Verifier, chain: Chain) -> tuple[float, float]:
    """The score of a step, and the seconds that it took."""
    started = time.monotonic()
    scored = await verifier.score(chain)
    return scored.values[-1], time.monotonic() - started


def _memory() -> int | None:
    """Bytes in use by this process and all below it; None where `/proc` does not tell."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    pages: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything, come state, parent, …
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            pages[int(directory.name)] = int((directory / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        children[parent].append(int(directory.name))
    if os.getpid() not in pages:
        return None
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += pages.get(process, 0)
        waiting += children[process]
    return total * os.sysconf("SC_PAGE_SIZE")


def _gpu_memory() -> int | None:
    """Bytes of the first GPU in use, by whomever; None without one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return int(total - free)
