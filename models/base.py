"""What the layers above may expect of any generator and any verifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from router.models.types import Chain, Prefill, Problem, Sampled, Sampling, Scored

Aggregation = Literal["last", "min", "mean", "prod"]
"""How the scores of a solution's steps become one score."""


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """What identifies a generator, and what it can do.

    model: short name of the weights (a hub id, a directory name, or a server's model name).
    engine: `vllm`, `transformers`, `openai` or `fake`.
    prompt: id of the prompt in `models.prompts`.
    context: longest prompt plus answer in tokens; None if the engine does not say.
    parameters: weights that multiply, as `models.usage.flops` counts them; None if unknown.
    seeds: whether a call may carry a seed.
    fingerprint: of the weights (`models.weights.fingerprint`), as a name may be given to others;
        None where they are not here.
    thinks: whether its prompts end inside a thought, which the chat template has opened.
    """

    model: str
    engine: str
    prompt: str
    context: int | None = None
    parameters: int | None = None
    seeds: bool = False
    fingerprint: str | None = None
    thinks: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class VerifierInfo:
    """What identifies a verifier.

    name: short name of the weights; format: id in the PRM registry; aggregation: the PRM's
    measured or published default; parameters: weights used for one scored token.
    """

    name: str
    format: str
    aggregation: Aggregation
    parameters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@runtime_checkable
class Generator(Protocol):
    """Samples continuations of a chain. Safe to call many times at once; batches across calls.

    Cancelling a call stops the engine's work on it. A failed call raises EngineError (with its
    cause), PromptTooLong or InputError; it never returns text in their place. Where the engine
    knows what a call had done that was cancelled or failed, the exception has it as `usage`.
    """

    @property
    def info(self) -> GeneratorInfo: ...

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        """n independent continuations of `chain`, as one request.

        The prompt is the rendered problem followed by the chain's own tokens, so it starts with
        the tokens of the chain's parent.
        """
        ...

    async def aclose(self) -> None:
        """Release the engine; no call may follow."""
        ...


@runtime_checkable
class Prefiller(Protocol):
    """A generator that can look inside its model: it says where it is after reading a problem."""

    @property
    def state_layer(self) -> int | None:
        """Decoder layer, counted from 1, whose output it hands out; None if it was opened so."""
        ...

    async def prefill(self, problem: Problem) -> Prefill:
        """Read a problem's prompt once; what a search then asks finds it in the prefix cache.

        Raises:
            PromptTooLong: the prompt does not fit the model.
            EngineError: the engine failed, or hands out no states.
        """
        ...


def state_layer(generator: Generator) -> int | None:
    """The layer of which a generator hands out states; None if of none."""
    return generator.state_layer if isinstance(generator, Prefiller) else None


@runtime_checkable
class Renders(Protocol):
    """A generator that says how problems are written for its model."""

    @property
    def rendering(self) -> str:
        """In words: by which chat template, in which form."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Scores the steps of a chain in [0, 1]: a process reward model (PRM).

    Safe to call many times at once. Raises Unscorable for a chain that it cannot take, which says
    nothing of others, and VerifierError where it fails; never returns NaN.
    """

    @property
    def info(self) -> VerifierInfo: ...

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        """Scores of the chain's steps from index `known` on (earlier ones the caller has)."""
        ...

    async def aclose(self) -> None: ...
