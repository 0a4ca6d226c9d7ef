"""Records that every layer shares: problems, chains, and what models return."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from router.models.errors import InputError
from router.models.thoughts import thoughts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from router.models.states import StepState

FinishReason = Literal["step", "stop", "length"]
"""Why a continuation ended: at a step delimiter, at the model's own end, or at a token limit."""

EndReason = Literal["completed", "generations", "tokens", "deadline"]
"""Why a search ended: by its own plan, or by which limit of its budget."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, with its gold answer where one is known.

    `history` holds earlier chat turns (a service's callers have them); a `system` turn there
    replaces the prompt's own system text. `task` is the id of what it asks for; `ask` is said after
    the text when it is put to a model (`strategies.tasks.posed`), and is in no file. Nor are
    `thinks`, whether that model's solutions begin inside a thought, and `model`, its name in a
    fleet.
    """

    id: str
    text: str
    answer: str | None = None
    source: str | None = None
    history: tuple[Message, ...] = ()
    task: str = "maths"
    ask: str = ""
    thinks: bool = False
    model: str = ""

    @classmethod
    def of_text(cls, text: str, task: str = "maths") -> Problem:
        """A problem whose id comes from its text, so that seeds mean something.

        Raises:
            InputError: it is empty.
        """
        if not text.strip():
            raise InputError("the problem is empty")
        return cls(hashlib.sha256(text.encode()).hexdigest()[:12], text, task=task)

    @classmethod
    def from_dict(
        cls,
        record: Mapping[str, Any],
        default_id: str | None = None,
        default_task: str = "maths",
    ) -> Problem:
        """Read one JSONL record (`id, problem, answer, task, …`); other fields are ignored.

        Raises:
            InputError: no problem text, or a field of the wrong type.
        """
        text = record.get("problem")
        if not isinstance(text, str) or not text.strip():
            raise InputError("record has no non-empty string field 'problem'")
        identifier = record.get("id", default_id)
        if not isinstance(identifier, str | int) or isinstance(identifier, bool):
            raise InputError(f"field 'id' must be a string, not {identifier!r:.80}")
        answer = record.get("answer")
        if isinstance(answer, int) and not isinstance(answer, bool):
            answer = str(answer)
        elif isinstance(answer, float) and math.isfinite(answer):
            answer = repr(answer).removesuffix(".0")  # no digit less than it was given
        if answer is not None and not isinstance(answer, str):
            raise InputError(f"field 'answer' must be a string or a number, not {answer!r:.80}")
        task = record.get("task", default_task)
        if not isinstance(task, str):
            raise InputError(f"field 'task' must be a string, not {task!r:.80}")
        source = record.get("source")
        return cls(
            id=str(identifier),
            text=text,
            answer=answer,
            source=source if isinstance(source, str) else None,
            task=task,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of a solution, as `models.steps` tells where it ends.

    token_ids: exactly the tokens that the engine sampled, so that a longer chain's prompt starts
        with its parent's tokens; None where an engine reports text only.
    tokens: how many were sampled for this step; None where the engine does not say.
    finish: `step` when more may follow, `stop` at the model's own end, `length` at a limit.
    logprob: mean log-probability of the step's tokens; None where the engine does not give it.
    ahead: the heading of the step after it, where that told that this one had ended; its tokens are
        among this one's, its text is that of the next.
    state: hidden states of the step, where the generator was asked for them; None otherwise. Lets a
        verifier score at no cost.
    """

    text: str
    finish: FinishReason
    tokens: int | None = None
    token_ids: tuple[int, ...] | None = None
    logprob: float | None = None
    ahead: str = ""
    state: StepState | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Chain:
    """A problem and the steps written so far. Immutable, compared by identity, knows its parent."""

    problem: Problem
    parent: Chain | None = field(default=None, repr=False)
    step: Step | None = None

    def extend(self, *steps: Step) -> Chain:
        """The chain longer by these steps."""
        chain = self
        for step in steps:
            chain = Chain(self.problem, chain, step)
        return chain

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        # Not by recursion: a solution may have more steps than Python's stack has frames.
        backwards = [chain.step for chain in self.ancestors() if chain.step is not None]
        return tuple(reversed(backwards))

    @property
    def depth(self) -> int:
        """Number of steps."""
        return len(self.steps)

    @property
    def text(self) -> str:
        """All that was written, thoughts included."""
        return "".join(step.text for step in self.steps)

    @property
    def marked(self) -> str:
        """All of it, with the mark that opens a thought also where a chat template wrote it."""
        return f"<think>{self.text}" if self.problem.thinks else self.text

    @cached_property
    def apart(self) -> tuple[str | None, str]:
        """What was thought, None if no thought is shown, and what was said."""
        return thoughts(self.marked)

    @property
    def ahead(self) -> str:
        """What is written already of the next step."""
        return self.step.ahead if self.step else ""

    @property
    def finished(self) -> bool:
        """No more will be sampled: the model ended, or a limit of tokens cut it."""
        return self.step is not None and self.step.finish != "step"

    @property
    def truncated(self) -> bool:
        """Cut by a limit of tokens rather than ended by the model."""
        return self.step is not None and self.step.finish == "length"

    @property
    def tokens(self) -> int:
        """Sampled tokens, counting 0 for steps whose engine does not say."""
        return sum(step.tokens or 0 for step in self.steps)

    def ancestors(self) -> Iterator[Chain]:
        """This chain, its parent, … up to the root."""
        chain: Chain | None = self
        while chain is not None:
            yield chain
            chain = chain.parent


MAX_TEMPERATURE = 2.0
"""As servers allow; what is sampled beyond is noise."""


def check_sampling(
    temperature: float | None = None, top_p: float | None = None, max_tokens: int | None = None
) -> None:
    """The one place that says what may be asked for; None is always in range.

    Raises:
        InputError: a value that is out of range, or no number; names it.
    """
    if temperature is not None and not (_real(temperature) and 0 <= temperature <= MAX_TEMPERATURE):
        raise InputError(
            f"temperature must lie between 0 and {MAX_TEMPERATURE:g}, not {temperature!r}"
        )
    if top_p is not None and not (_real(top_p) and 0 < top_p <= 1):
        raise InputError(f"top_p must be over 0 and at most 1, not {top_p!r}")
    if max_tokens is not None and (isinstance(max_tokens, bool) or max_tokens < 1):
        raise InputError(f"max_tokens must be at least 1, not {max_tokens!r}")


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one call.

    until: `step` stops after the step delimiter, `end` samples to the end of the solution.
    max_tokens: limit on the tokens of each continuation of this call.
    stop: further stop strings; the text before them is kept, and the solution is finished there.
    seed: only for generators whose info says `seeds`; others raise InputError.

    Raises:
        InputError: as `check_sampling`.
    """

    until: Literal["step", "end"] = "end"
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int = 2048
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.max_tokens)


@dataclass(frozen=True, slots=True)
class AskedSampling:
    """What a caller asks for of a `Sampling`; None leaves it to what is usual.

    Raises:
        InputError: as `check_sampling`.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.max_tokens)

    @classmethod
    def of(cls, sampling: Sampling) -> AskedSampling:
        """All of it is asked for."""
        return cls(sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop)

    def over(self, usual: Sampling) -> Sampling:
        """What is asked for, and what is usual for the rest."""
        asked = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(usual, **{name: value for name, value in asked.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Continuation:
    """What one sample added to a chain: one step, or all steps to the end.

    tokens: sampled tokens, the engine's own count; None if the engine does not report it.
    """

    steps: tuple[Step, ...]
    tokens: int | None

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps)

    @property
    def finish(self) -> FinishReason:
        return self.steps[-1].finish


@dataclass(frozen=True, slots=True)
class Sampled:
    """Answer to one sample call: n continuations of one chain, and what the prompt cost.

    prompt_tokens: tokens of the prompt, all of them, over all requests that the call needed.
    cached_tokens: those of them that the engine took from its prefix cache; None if unknown.
    """

    continuations: tuple[Continuation, ...]
    prompt_tokens: int | None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Answer to one score call.

    values: one probability in [0, 1] for each step that was asked for, in order.
    tokens: tokens the verifier really computed for it; 0 when it read the generator's own
        hidden states; None if unknown.
    cached_tokens: further tokens that came from a cache.
    """

    values: tuple[float, ...]
    tokens: int | None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prefill:
    """What a generator's one pass over a problem's prompt gave.

    state: output of its `state_layer` at the prompt's last token, (hidden,), float32.
    prompt_tokens, cached_tokens: as in `Sampled`. The token that an engine samples with them costs
        no pass of its own.
    """

    state: npt.NDArray[np.float32]
    prompt_tokens: int
    cached_tokens: int
