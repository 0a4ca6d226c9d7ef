"""Reading what `/v1/completions` answers: choices, usage, and choices cut into steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from router.models.errors import EngineError
from router.models.tokens import split_text, step_ends
from router.models.types import Continuation, FinishReason, Sampling, Step


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One choice as the server reports it.

    stop_reason: the stop string that ended it; None where the server does not say.
    token_ids, strings, logprobs: of each sampled token; None or empty if not reported.
    tokens: the server's own count of sampled tokens; None if it gave one sum for many choices.
    """

    text: str
    finish_reason: str
    stop_reason: str | None
    token_ids: tuple[int, ...] | None
    strings: tuple[str, ...]
    logprobs: tuple[float, ...]
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; prompt counts are None where the server does not report them."""

    choices: tuple[CompletionChoice, ...]
    prompt_tokens: int | None
    cached_tokens: int | None


def parse_answer(answer: Mapping[str, Any]) -> Answer:
    """Check one JSON answer.

    Raises:
        EngineError: no choices, a choice without text, or one that neither stopped nor reached
            its limit of tokens.
    """
    raw = answer.get("choices")
    if not isinstance(raw, list) or not raw:
        raise EngineError(f"the server answered no choices: {str(dict(answer))[:300]}")
    usage = _mapping(answer.get("usage"))
    sampled = _count(usage.get("completion_tokens")) if len(raw) == 1 else None
    return Answer(
        choices=tuple(_choice(choice, sampled) for choice in raw),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
    )


def _choice(raw: Any, sampled: int | None) -> CompletionChoice:
    choice = _mapping(raw)
    text, finish = choice.get("text"), choice.get("finish_reason")
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise EngineError(
            f"the server answered a choice with text {str(text)[:80]!r} and finish_reason "
            f"{finish!r}; expected text that ends with 'stop' or 'length'"
        )
    reason, ids = choice.get("stop_reason"), choice.get("token_ids")
    per_token = _mapping(choice.get("logprobs"))
    return CompletionChoice(
        text=text,
        finish_reason=finish,
        stop_reason=reason if isinstance(reason, str) else None,
        token_ids=tuple(ids) if isinstance(ids, list) else None,
        strings=tuple(per_token.get("tokens") or ()),
        logprobs=tuple(per_token.get("token_logprobs") or ()),
        tokens=len(ids) if isinstance(ids, list) else sampled,
    )


def joined(first: CompletionChoice, rest: CompletionChoice) -> CompletionChoice:
    """One choice made of two that report token ids, the second sampled after the first."""
    token_ids = (*(first.token_ids or ()), *(rest.token_ids or ()))
    return replace(
        rest,
        text=first.text + rest.text,
        token_ids=token_ids,
        strings=first.strings + rest.strings,
        logprobs=first.logprobs + rest.logprobs,
        tokens=len(token_ids),
    )


def exact_continuation(
    choice: CompletionChoice, sampling: Sampling, delimiter: str
) -> Continuation:
    """Steps of a choice that reports token ids, and keeps its stop string in the text."""
    finish = _finish(choice, sampling, delimiter)
    text = choice.text
    if finish == "stop" and choice.stop_reason is not None:
        text = text.removesuffix(choice.stop_reason)
    elif finish == "step":
        text += _rest_of_last_token(choice.strings, delimiter)
    ends = step_ends(text, delimiter) if sampling.until == "end" else []
    steps = _cut(choice, text, ends, delimiter, finish)
    return Continuation(steps, choice.tokens)


def text_continuation(choice: CompletionChoice, sampling: Sampling, delimiter: str) -> Continuation:
    """Steps of a choice that reports text only, from which the server cut the stop string.

    In step mode such a server does not say whether the delimiter or the model's own end came.
    Text counts as a step, and gets the delimiter back; no text means that the solution has ended.
    """
    if sampling.until == "end":
        finish: FinishReason = "stop" if choice.finish_reason == "stop" else "length"
        return Continuation(
            split_text(choice.text, finish, delimiter, choice.tokens), choice.tokens
        )
    if choice.finish_reason == "length":
        finish = "length"
    elif choice.text.strip() and choice.stop_reason in (None, delimiter):
        finish = "step"
    else:
        finish = "stop"
    text = choice.text + delimiter if finish == "step" else choice.text
    return Continuation((Step(text, finish, choice.tokens),), choice.tokens)


def _rest_of_last_token(strings: Sequence[str], delimiter: str) -> str:
    """What the last token says after the delimiter; vLLM cuts it from the text, not the tokens."""
    text = "".join(strings)
    last = len(text) - len(strings[-1]) if strings else 0
    at = text.find(delimiter, max(0, last - len(delimiter) + 1))
    return text[at + len(delimiter) :] if at >= 0 else ""


def _finish(choice: CompletionChoice, sampling: Sampling, delimiter: str) -> FinishReason:
    if choice.finish_reason == "length":
        return "length"
    at_step = sampling.until == "step" and choice.stop_reason == delimiter
    return "step" if at_step else "stop"


def _cut(
    choice: CompletionChoice, text: str, ends: Sequence[int], delimiter: str, finish: FinishReason
) -> tuple[Step, ...]:
    """Cut text and tokens where steps end; the steps' token ids joined are the choice's.

    The tokens' own strings differ from the text only in characters that span tokens and after the
    end of the text, so the k-th step ends at the k-th delimiter of both.
    """
    ids = choice.token_ids or ()
    bounds = [(0, 0)]
    reached = list(accumulate(len(string) for string in choice.strings))
    same = step_ends("".join(choice.strings), delimiter)[: len(ends)]
    if ends and (len(same) < len(ends) or len(reached) != len(ids)):
        return split_text(text, finish, delimiter, choice.tokens)
    for in_strings, in_text in zip(same, ends, strict=True):
        token = bisect_left(reached, in_strings) + 1
        # The whole token belongs to the step that it completes.
        char = in_text + reached[token - 1] - in_strings
        if bounds[-1][0] < token < len(ids):
            bounds.append((token, char))
    bounds.append((len(ids), len(text)))
    return tuple(
        Step(
            text=text[from_char:to_char],
            finish=finish if stop == len(ids) else "step",
            tokens=stop - start,
            token_ids=ids[start:stop],
            logprob=_mean(choice.logprobs[start:stop]),
        )
        for (start, from_char), (stop, to_char) in pairwise(bounds)
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def total(counts: Iterable[int | None]) -> int | None:
    """Their sum, or None if one of them is unknown."""
    values = list(counts)
    known = [count for count in values if count is not None]
    return sum(known) if len(known) == len(values) else None
