"""A search through two real `vllm serve`: the embedded model in one, the shipped head in the other.

The last tests kill the head's server.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router.core import Router
from router.models.base import Verifier, VerifierInfo
from router.models.errors import Unscorable, VerifierError
from router.models.fakes import FakeGenerator
from router.models.generators.endpoints import EndpointPool
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Sampled, Sampling, Step
from router.models.verifiers.checkpoint import export_checkpoint
from router.models.verifiers.identity import identity_of_head
from router.models.verifiers.load import load_verifier
from router.models.verifiers.load_served import load_served_verifier
from router.models.verifiers.prm import get_format
from router.models.verifiers.served import ServedVerifier
from router.models.verifiers.trained_head import shipped_head
from router.models.verifiers.transformers import TransformersVerifier
from router.models.weights.embedded import DEFAULT
from router.opening import Models
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, run_search
from router.strategies.registry import parse_strategy
from tests.vllm_server import VllmServer, free_port

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(1800),
    pytest.mark.asyncio(loop_scope="module"),
]

ROOT = Path(__file__).parents[2]
BLOCK = 32
TOLERANCE = 0.05
"""All compute in bfloat16, in other kernels and batches, which moves scores in [0, 1] this far."""

SHEEP = Problem("sheep", "A farmer has 17 sheep, sells 5, buys 3 and finds 2. How many has he?")
STEPS = (
    "He had 17 sheep and sold 5 of them, which leaves 17 - 5 = 12 sheep on the farm.\n\n",
    "Then he bought 3 sheep and found 2 more, so that makes 12 + 3 + 2 = 18 sheep.\n\n",
    "The answer is 18.",
)


class Servers:
    """The embedded model's and the head's; `head` is its directory."""

    def __init__(self, generator: VllmServer, verifier: VllmServer, head: Path) -> None:
        self.generator = generator
        self.verifier = verifier
        self.head = head


@pytest.fixture(scope="module")
def servers(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Started at once, the second on what `router verifier export` writes, with our plugin."""
    pytest.importorskip("vllm")
    scratch = tmp_path_factory.mktemp("servers")
    head = shipped_head(DEFAULT.name)
    assert head is not None
    exported = scratch / "head"
    name = export_checkpoint(tokenizer_dir, head, exported).name
    sizes = ("--max-model-len", "2048", "--block-size", str(BLOCK))
    with ExitStack() as stack:
        generator = VllmServer(
            tokenizer_dir,
            scratch / "generator",
            *(*sizes, "--served-model-name", DEFAULT.name),
            *("--worker-cls", "router.models.generators.vllm_served_worker.ServedWorker"),
        )
        stack.enter_context(generator)
        verifier = VllmServer(
            exported,
            scratch / "verifier",
            *(*sizes, "--served-model-name", name),
            *("--pooler-config", '{"tok_pooling_type": "ALL"}', "--io-processor-plugin", "router"),
            site=installed_plugin(scratch / "site"),
        )
        stack.enter_context(verifier)
        generator.wait()
        verifier.wait()
        yield Servers(generator, verifier, head)


def installed_plugin(site: Path) -> Path:
    """A directory with the entry point that installing this version of `router` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    group = "vllm.io_processor_plugins"
    lines = [f"{name} = {where}" for name, where in project["entry-points"][group].items()]
    info = site / "router_plugin-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: router-plugin\nVersion: 0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return site


def chain_of(*texts: str, problem: Problem = SHEEP) -> Chain:
    return Chain(problem).extend(*(Step(text, "step") for text in texts))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(servers: Servers) -> AsyncIterator[Verifier]:
    """The head in this process, on the embedded model."""
    verifier = await load_verifier(str(servers.head), engine="transformers")
    yield verifier
    await verifier.aclose()


async def served(servers: Servers) -> ServedVerifier:
    verifier = await load_served_verifier(None, [servers.verifier.url])
    assert isinstance(verifier, ServedVerifier)
    return verifier


async def test_the_heads_server_scores_as_the_head_does_here(
    servers: Servers, here: Verifier
) -> None:
    """And tells who it is; each step costs its own tokens, as long as the server may cache."""
    there = await served(servers)
    assert there.info.name == here.info.name
    values = (await here.score(chain_of(*STEPS))).values
    lengths = [0]
    for depth in range(1, len(STEPS) + 1):
        chain = chain_of(*STEPS[:depth])
        scored = await there.score(chain, depth - 1)
        assert scored.values == pytest.approx(values[depth - 1 : depth], abs=TOLERANCE)
        lengths.append((scored.tokens or 0) + (scored.cached_tokens or 0))
        if depth > 1:
            assert (scored.tokens or 0) < lengths[-1] - lengths[-2] + BLOCK
    again = await there.score(chain_of(*STEPS))
    assert again.values == pytest.approx(values, abs=TOLERANCE)
    with pytest.raises(Unscorable, match="2048"):
        await there.score(chain_of("many " * 2100))
    await there.aclose()


async def test_a_prm_that_says_words_is_served_by_any_language_model(
    servers: Servers, tokenizer_dir: Path, tokenizer: Any
) -> None:
    """What the embedded model would say of the steps; no PRM, but the same sums."""
    prm = get_format("rlhflow")
    info = VerifierInfo("words", prm.id, prm.aggregation)
    here = TransformersVerifier.load(tokenizer_dir, prm, info, dtype="bfloat16")
    encoder = ChainEncoder(tokenizer, get_prompt("plain"))
    pool = EndpointPool([servers.generator.url])
    there = await ServedVerifier.load(pool, encoder, prm, info, 2048)
    values = (await here.score(chain_of(*STEPS))).values
    for known in range(len(STEPS)):
        scored = await there.score(chain_of(*STEPS), known)
        assert scored.values == pytest.approx(values[known:], abs=TOLERANCE)
    await there.aclose()
    await here.aclose()


async def test_beam_search_through_both(servers: Servers, here: Verifier) -> None:
    """A router opens both; the candidates' scores are those that the head gives here."""
    search = parse_strategy("beam_search(n=4, width=2, depth=2)")

    async def run(models: Models) -> Outcome:
        asked = Sampling(max_tokens=64)
        return await run_search(
            search, SHEEP, models.generator, models.verifier, Budget(search.cost), asked
        )

    router = Router(
        DEFAULT.name,
        endpoints=[servers.generator.url],
        verifier_endpoints=[servers.verifier.url],
    )
    async with router:
        outcome = await router.arun(run)
    assert outcome.usage.sampled_tokens
    assert outcome.usage.verifier_tokens
    assert outcome.candidates
    for candidate in outcome.candidates:
        values = (await here.score(candidate.chain)).values
        assert candidate.scores == pytest.approx(values, abs=TOLERANCE)


class Killing(FakeGenerator):
    """Does something when it is asked for the third time: in mid-search."""

    def __init__(self, kill: Callable[[], object]) -> None:
        super().__init__()
        self._kill = kill

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        sampled = await super().sample(chain, n, sampling)
        if self.calls == 3:
            self._kill()
        return sampled


SUM = Problem("sum", "What is 12 + 35 + 7 + 1 + 8 + 20?")
SEARCH = "beam_search(n=4, width=2)"


@pytest.fixture
def stand_in(servers: Servers) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A process that says to be the same verifier."""
    port = free_port()
    directory = shipped_head(DEFAULT.name)
    assert directory is not None
    name = identity_of_head(directory).name
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.prm_server", str(port), name], cwd=ROOT
    )
    yield f"http://127.0.0.1:{port}", process
    process.kill()
    process.wait()


async def test_a_search_goes_on_at_another_server_or_ends_with_an_error(
    servers: Servers,
    stand_in: tuple[str, subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.1)
    url, process = stand_in
    killing = Killing(servers.verifier.kill)
    both = [servers.verifier.url, url]
    async with Router(generator=killing, verifier_endpoints=both) as router:
        found = await router.asolve(SUM, 4, strategy=SEARCH)
    assert killing.calls > 3
    assert all(candidate.scores for candidate in found.candidates)

    killing = Killing(process.kill)
    router = Router(generator=killing, verifier_endpoints=[url])
    started = time.monotonic()
    with pytest.raises(VerifierError, match=rf"{url}/pooling failed.*tried 5 times") as caught:
        await router.asolve(SUM, 4, strategy=SEARCH)
    assert time.monotonic() - started < 120
    assert caught.value.usage is not None
    assert caught.value.usage.generations
    await router.aclose()
