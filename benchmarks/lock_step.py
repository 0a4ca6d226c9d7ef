"""Step search in lock step, as the field's reference implementation runs it.

A baseline in our own words with the behaviour of huggingface/search-and-learn at 6f81cac
(`src/sal/search/beam_search.py`, `diverse_verifier_tree_search.py`, `utils/score.py`):

- one batched generate call a round, and nothing goes on before its slowest row has ended;
- beam search takes one problem at a time (there `search_batch_size` must be 1); DVTS takes as many
  problems as it is given, all of them in the same rounds;
- each row is a request of its own, whose solution so far is text that is tokenised again;
- after each round every solution is scored anew, all of it, without a cache, by a verifier that
  runs while the generator waits, 8 solutions a forward pass;
- a beam that ended leaves, and the others are copied until they are N again; so rounds go on until
  all N end in the same round. Equal beams are dropped before that (`filter_duplicates`, as all its
  recipes say). The first N that ended are the candidates, copied if they are fewer;
- DVTS follows the best child of each subtree until it ended or has an answer in a box; the last
  round's children are the candidates.

Two things are ours, so that both ways are compared at equal limits: the limit of tokens is one of
the whole solution (there, of each step), and the text cut by it counts as ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from router.models.base import Generator, Verifier, VerifierInfo
from router.models.prompts import Prompt, get_prompt
from router.models.runtime.numbers import compute_dtype
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Sampling, Scored, Step
from router.models.usage import Usage
from router.models.verifiers.prm import ClassHead, get_format
from router.models.verifiers.reward_heads import RewardHead, load_head
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig
from router.models.verifiers.transformers import pretrained
from router.strategies.base import Candidate
from router.strategies.selection import aggregate
from router.strategies.tasks import get_task

FORWARD_ROWS = 8
"""Solutions a forward pass of the verifier; the reference's default for its main verifier."""


@dataclass(frozen=True, slots=True)
class Beam:
    """A solution so far, as text. `scores` are of all its steps, `tokens` all it has sampled."""

    problem: Problem
    text: str = ""
    tokens: int = 0
    ended: bool = False
    scores: tuple[float, ...] = ()

    def path(self) -> Chain:
        """The text as one step without token ids, so that an engine tokenises it again."""
        root = Chain(self.problem)
        return root.extend(Step(self.text, "step")) if self.text else root

    def candidate(self) -> Candidate:
        finished = Chain(self.problem).extend(Step(self.text, "stop", self.tokens))
        return Candidate(finished, self.scores, get_task(finished.problem.task).read(self.text))


class LockStep:
    """The models, and what they have been asked for so far."""

    def __init__(self, generator: Generator, verifier: Verifier, sampling: Sampling) -> None:
        self.usage = Usage()
        self._generator = generator
        self._verifier = verifier
        self._sampling = sampling
        self._how = verifier.info.aggregation

    async def beam_search(
        self, problem: Problem, n: int, width: int, depth: int
    ) -> list[Candidate]:
        """Candidates of one problem."""
        active = [Beam(problem)] * n
        completed: list[Beam] = []
        for round_ in range(depth):
            active = _repeated(active, n)
            grown = await self.score(await self.grow(active, whole=round_ == depth - 1))
            completed += [beam for beam in grown if beam.ended]
            running = {beam.text: beam for beam in grown if not beam.ended}
            if not running:
                break
            active = self._best(list(running.values()), n // width)
        return [beam.candidate() for beam in _repeated(completed, n)]

    async def dvts(
        self, problems: Sequence[Problem], n: int, width: int, depth: int
    ) -> list[list[Candidate]]:
        """Candidates of each problem; all problems are searched in the same rounds."""
        subtrees = [Beam(problem) for problem in problems for _ in range(n // width)]
        children: list[list[Beam]] = [[] for _ in subtrees]
        running = list(range(len(subtrees)))
        for round_ in range(depth):
            rows = [subtrees[index] for index in running for _ in range(width)]
            grown = await self.score(await self.grow(rows, whole=round_ == depth - 1))
            for place, index in enumerate(running):
                children[index] = grown[place * width : (place + 1) * width]
                (subtrees[index],) = self._best(children[index], 1)
            running = [
                index
                for index in running
                if not subtrees[index].ended and "boxed{" not in subtrees[index].text
            ]
            if not running:
                break
        share = n // width
        return [
            [beam.candidate() for group in children[at : at + share] for beam in group]
            for at in range(0, len(children), share)
        ]

    def _best(self, beams: Sequence[Beam], count: int) -> list[Beam]:
        return sorted(beams, key=lambda beam: -aggregate(beam.scores, self._how))[:count]

    async def grow(self, beams: Sequence[Beam], *, whole: bool) -> list[Beam]:
        """One call for all beams; it ends with the slowest."""
        return list(await asyncio.gather(*(self._continue(beam, whole) for beam in beams)))

    async def _continue(self, beam: Beam, whole: bool) -> Beam:
        sampling = replace(
            self._sampling,
            until="end" if whole else "step",
            max_tokens=self._sampling.max_tokens - beam.tokens,
        )
        sampled = await self._generator.sample(beam.path(), 1, sampling)
        (continuation,) = sampled.continuations
        self.usage += Usage(
            sampled_tokens=continuation.tokens,
            prompt_tokens=sampled.prompt_tokens,
            prompt_tokens_cached=sampled.cached_tokens,
        )
        return replace(
            beam,
            text=beam.text + continuation.text,
            tokens=beam.tokens + (continuation.tokens or 0),
            ended=continuation.finish != "step",
        )

    async def score(self, beams: Sequence[Beam]) -> list[Beam]:
        """Score all solutions, each from its first step on."""
        scored = await asyncio.gather(*(self._verifier.score(_in_steps(beam)) for beam in beams))
        for one in scored:
            self.usage += Usage(verifier_tokens=one.tokens)
        return [replace(b, scores=one.values) for b, one in zip(beams, scored, strict=True)]


def _repeated(beams: Sequence[Beam], n: int) -> list[Beam]:
    return [beams[index % len(beams)] for index in range(n)]


def _in_steps(beam: Beam) -> Chain:
    """The text cut at each delimiter, as the reference's verifiers cut it."""
    pieces = [piece for piece in beam.text.split("\n\n") if piece.strip()] or [beam.text]
    return Chain(beam.problem).extend(*(Step(f"{piece}\n\n", "step") for piece in pieces))


class WholeSolutionVerifier:
    """A trained head on its backbone's first layers, without a cache: every call pays for all.

    Computes in the format of `models.verifiers.transformers`, one batch at a time.
    """

    def __init__(
        self, backbone: torch.nn.Module, head: RewardHead, encoder: ChainEncoder, config: HeadConfig
    ) -> None:
        self.info = VerifierInfo(config.name, config.format, config.aggregation)
        self._backbone = backbone
        self._head = head
        self._encoder = encoder
        self._layout = get_format(config.format).layout
        self._waiting: list[tuple[Chain, asyncio.Future[Scored]]] = []
        self._running = False

    @classmethod
    def load(
        cls, head: Path, backbone: Path, prompt: Prompt | None = None
    ) -> WholeSolutionVerifier:
        """Load a trained head (`models.verifiers.trained_head`) with its backbone. Blocks."""
        from transformers import AutoModel, AutoTokenizer

        config = HeadConfig.load(head)
        spec = get_format(config.format).head
        assert isinstance(spec, ClassHead)
        model = pretrained(AutoModel, backbone, compute_dtype(backbone), layers=config.layer).eval()
        torch.nn.init.ones_(model.norm.weight)  # the head reads states that are only normalised
        encoder = ChainEncoder(
            AutoTokenizer.from_pretrained(backbone), prompt or get_prompt(config.prompt)
        )
        weights = load_head([head / WEIGHTS_FILE], config.backbone.hidden_size, spec)
        return cls(model, weights, encoder, config)

    async def score(self, path: Chain, known: int = 0) -> Scored:
        """Scores of the path's steps from index `known` on; all of it is computed."""
        result: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._waiting.append((path, result))
        if not self._running:
            self._running = True
            # One turn of the event loop, so that all solutions of a round are there.
            await asyncio.sleep(0)
            await self._drain()
        scored = await result
        return replace(scored, values=scored.values[known:])

    async def aclose(self) -> None:
        pass

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:FORWARD_ROWS], self._waiting[FORWARD_ROWS:]
            scored = await asyncio.to_thread(self._forward, [path for path, _ in batch])
            for (_, result), one in zip(batch, scored, strict=True):
                result.set_result(one)
        self._running = False

    @torch.inference_mode()
    def _forward(self, paths: Sequence[Chain]) -> list[Scored]:
        encoded = [self._layout.encode(path, self._encoder) for path in paths]
        lengths = [len(one.ids) for one in encoded]
        tokens = torch.zeros(len(paths), max(lengths), dtype=torch.long)
        for row, one in enumerate(encoded):
            tokens[row, : lengths[row]] = torch.tensor(one.ids)
        # Padded on the right of a causal model: what is read never sees it.
        states = self._backbone(input_ids=tokens).last_hidden_state
        return [
            Scored(
                tuple(self._head.probabilities(states[row, list(one.reads)]).tolist()),
                tokens=length,
                cached_tokens=0,
            )
            for row, (one, length) in enumerate(zip(encoded, lengths, strict=True))
        ]
