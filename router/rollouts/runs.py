"""Records of stored rollouts: what produced them, one finished solution, one run."""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from typing import Any

import numpy as np

from router.difficulty.base import Evidence
from router.models.base import Aggregation, GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.prompts import PROMPTS
from router.models.types import Chain, EndReason, FinishReason, Problem, Sampling, Step
from router.models.usage import Usage

_LEARNT = frozenset({"verifier", "format", "aggregation", "fingerprint", "name"})
_COUNTS = frozenset({"parameters", "verifier_parameters", "price", "others"})
_UNKNOWN = (None, "")


@dataclass(frozen=True, slots=True)
class Origin:
    """What produced the rollouts of a store: rollouts of another origin must not join them.

    The engine is no part of it: the same weights give the same distribution on every engine.

    prompt_digest: of the prompt's text; None for a prompt that is not in `models.prompts`.
    fingerprint: of the generator's weights; None where they are not known, as behind an endpoint.
        Where both are known they say whether these are the same weights, and names do not.
    verifier, format, aggregation: None until the first scored run.
    parameters, verifier_parameters: weights that multiply, for FLOPs; None if unknown. They are
        how `router` counts, not what it counts, so they need not agree; nor need prices.
    name: of the model in a fleet; empty where there is only one, or it is not known yet.
    price: money for a million tokens of a prompt, and sampled; None where FLOPs are counted.
    others: of the further models of a fleet, by their names.
    """

    model: str
    prompt: str
    prompt_digest: str | None
    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    verifier: str | None = None
    format: str | None = None
    aggregation: Aggregation | None = None
    parameters: int | None = None
    verifier_parameters: int | None = None
    fingerprint: str | None = None
    name: str = ""
    price: tuple[float, float] | None = None
    others: Mapping[str, Origin] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        generator: GeneratorInfo,
        sampling: Sampling,
        verifier: VerifierInfo | None = None,
        name: str = "",
    ) -> Origin:
        prompt = PROMPTS.get(generator.prompt.partition("?")[0])
        return cls(
            model=generator.model,
            prompt=generator.prompt,
            prompt_digest=None if prompt is None else sha256(repr(prompt).encode()).hexdigest(),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop=sampling.stop,
            verifier=None if verifier is None else verifier.name,
            format=None if verifier is None else verifier.format,
            aggregation=None if verifier is None else verifier.aggregation,
            parameters=generator.parameters,
            verifier_parameters=None if verifier is None else verifier.parameters,
            fingerprint=generator.fingerprint,
            name=name,
        )

    def by(self, model: str | None) -> Origin:
        """That of one model of a fleet; None is the first.

        Raises:
            InputError: there is none of that name.
        """
        if model is None:
            return self
        if model not in self.others:
            have = ", ".join([self.name, *self.others]) if self.name else "one, without a name"
            raise InputError(f"there are no rollouts of a model {model!r}: there are {have}")
        return self.others[model]

    @property
    def verified(self) -> dict[str | None, bool]:
        """Whether each model has a verifier, by its name; None is the first."""
        found: dict[str | None, bool] = {None: self.verifier is not None}
        return found | {name: one.verifier is not None for name, one in self.others.items()}

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
        )

    @property
    def unscored(self) -> Origin:
        """The same before any verifier."""
        return replace(self, verifier=None, format=None, aggregation=None, verifier_parameters=None)

    def to_dict(self) -> dict[str, Any]:
        record = {**asdict(self), "stop": list(self.stop)}
        record["others"] = {name: one.to_dict() for name, one in self.others.items()}
        fleet = ("name", "price", "others")
        return {k: value for k, value in record.items() if value or k not in fleet}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Origin:
        others = {k: cls.from_dict(one) for k, one in record.get("others", {}).items()}
        price = record.get("price")
        known = {"stop": tuple(record["stop"]), "price": price and tuple(price), "others": others}
        return cls(**{**record, **known})

    def joined(self, other: Origin) -> Origin:
        """Both together: what one does not know yet (None) it takes from the other.

        Counts of weights are those of `other`, the newer one, where it knows them.

        Raises:
            InputError: they differ; the message names each field.
        """
        known, new = ({f.name: getattr(one, f.name) for f in fields(one)} for one in (self, other))
        if self.fingerprint is not None and self.fingerprint == other.fingerprint:
            new["model"] = self.model
        different = [
            f"{name} was {known[name]!r} and is now {new[name]!r}"
            for name in known
            if known[name] != new[name]
            and name not in _COUNTS
            and not (name in _LEARNT and (known[name] in _UNKNOWN or new[name] in _UNKNOWN))
        ]
        if different:
            raise InputError("; ".join(different))
        counts = {name: new[name] for name in _COUNTS if new[name] is not None}
        learnt = {name: new[name] for name in known if known[name] in _UNKNOWN}
        return Origin(**{**known, **learnt, **counts, "others": self._with_others(other)})

    def _with_others(self, other: Origin) -> dict[str, Origin]:
        others = {**other.others, **self.others}
        for name in self.others.keys() & other.others.keys():
            try:
                others[name] = self.others[name].joined(other.others[name])
            except InputError as error:
                raise InputError(f"of model {name}: {error}") from None
        return others


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """One finished solution.

    scores: verifier's score of each step; None if it was never asked, empty if it cannot take it.
    step_tokens: tokens of each step, summing to `len(token_ids)`; None if not known.
    logprobs: mean log-probability of each step's tokens, at temperature 1; None if not known.
    """

    steps: tuple[str, ...]
    finish: FinishReason
    answer: str | None
    correct: bool
    tokens: int | None = None
    scores: tuple[float, ...] | None = None
    step_tokens: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None

    @property
    def text(self) -> str:
        return "".join(self.steps)

    @classmethod
    def of(
        cls, chain: Chain, answer: str | None, correct: bool, scores: Sequence[float] | None
    ) -> StoredCandidate:
        """From a finished chain of a search."""
        steps = chain.steps
        assert steps
        counts = [step.tokens for step in steps if step.tokens is not None]
        ids = [step.token_ids for step in steps if step.token_ids is not None]
        logprobs = [round(step.logprob, 4) for step in steps if step.logprob is not None]
        complete = len(ids) == len(steps) and [len(i) for i in ids] == counts
        return cls(
            steps=tuple(step.text for step in steps),
            finish=steps[-1].finish,
            answer=answer,
            correct=correct,
            tokens=sum(counts) if len(counts) == len(steps) else None,
            scores=None if scores is None else tuple(scores),
            step_tokens=tuple(counts) if len(counts) == len(steps) else None,
            token_ids=tuple(token for i in ids for token in i) if complete else None,
            logprobs=tuple(logprobs) if len(logprobs) == len(steps) else None,
        )

    @property
    def unscored(self) -> StoredCandidate:
        """The same before any verifier."""
        return replace(self, scores=None)

    def with_tokens(self, tokens: int | None, token_ids: Sequence[int] | None) -> StoredCandidate:
        """The same with an engine's own count and token ids, where the steps had none."""
        ids = self.token_ids if token_ids is None else tuple(token_ids)
        return replace(self, tokens=self.tokens if tokens is None else tokens, token_ids=ids)

    def chain(self, problem: Problem) -> Chain:
        """The solution as a chain, token-exact where the tokens of each step are known."""
        chain = Chain(problem)
        exact = self.token_ids is not None and self.step_tokens is not None
        start = 0
        for index, text in enumerate(self.steps):
            last = index == len(self.steps) - 1
            count = None if self.step_tokens is None else self.step_tokens[index]
            ids = None
            if exact and self.token_ids is not None and count is not None:
                ids = self.token_ids[start : start + count]
                start += count
            logprob = None if self.logprobs is None else self.logprobs[index]
            chain = chain.extend(Step(text, self.finish if last else "step", count, ids, logprob))
        return chain

    def to_row(self) -> tuple[Any, ...]:
        """Columns of the `candidates` table after `run` and `idx`; token ids are compressed."""
        ids = (
            None if self.token_ids is None else zlib.compress(array("I", self.token_ids).tobytes())
        )
        return (
            self.answer,
            self.correct,
            self.finish,
            self.tokens,
            dump(self.scores),
            dump(self.steps),
            dump(self.step_tokens),
            ids,
            dump(self.logprobs),
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredCandidate:
        answer, correct, finish, tokens, scores, steps, step_tokens, token_ids, logprobs = row
        return cls(
            steps=tuple(json.loads(steps)),
            finish=finish,
            answer=answer,
            correct=bool(correct),
            tokens=tokens,
            scores=None if scores is None else tuple(json.loads(scores)),
            step_tokens=None if step_tokens is None else tuple(json.loads(step_tokens)),
            token_ids=None if token_ids is None else tuple(array("I", zlib.decompress(token_ids))),
            logprobs=None if logprobs is None else tuple(json.loads(logprobs)),
        )


@dataclass(frozen=True, slots=True)
class StoredPrefill:
    """Where a problem's prompt led the generator: the state of its last token at a layer."""

    layer: int
    state: tuple[float, ...]

    def evidence(self) -> Evidence:
        """The same, as an estimator takes it."""
        return Evidence(state=np.array(self.state, np.float32))


@dataclass(frozen=True, slots=True)
class Run:
    """One search on one problem: what it found, why it ended, what it spent."""

    problem: str
    configuration: str
    repeat: int
    ended: EndReason
    usage: Usage
    candidates: tuple[StoredCandidate, ...]

    @property
    def unscored(self) -> Run:
        """The same before any verifier; FLOPs are not known where one had a part in them."""
        spent = self.usage.flops if self.usage.verifier_tokens == 0 else None
        usage = replace(self.usage, verifier_tokens=0, verifier_seconds=0.0, flops=spent)
        candidates = tuple(candidate.unscored for candidate in self.candidates)
        return replace(self, usage=usage, candidates=candidates)


def dump(values: Sequence[Any] | None) -> str | None:
    """Compact JSON of a sequence; None stays None."""
    return None if values is None else json.dumps(list(values), separators=(",", ":"))
