"""Reading what servers answer: choices of completions and chats, usage, and choices as steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import isfinite
from reprlib import repr as shown
from typing import Any

from router.models.errors import EngineError
from router.models.steps import split_text, step_ends, step_stops
from router.models.tokens import cut_steps
from router.models.types import Continuation, FinishReason, Sampling, Step


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One choice as the server reports it.

    stop_reason: the stop string that ended it; None if none did, or the server does not say which.
    says_why: whether the server says that.
    token_ids, strings, logprobs: of each sampled token; None or empty if not reported.
    tokens: the server's own count of sampled tokens; None if it gave one sum for many choices.
    """

    text: str
    finish_reason: str
    stop_reason: str | None
    says_why: bool
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


def parse_answer(answer: Mapping[str, Any], *, chat: bool = False) -> Answer:
    """Check one JSON answer, of the completions or the chat API.

    Raises:
        EngineError: no choices, a choice without text, or one that neither stopped nor reached
            its limit of tokens.
    """
    raw = answer.get("choices")
    if not isinstance(raw, list) or not raw:
        said = shown(dict(answer))
        raise EngineError(f"the server answered no choices, but {said}", said)
    usage = _mapping(answer.get("usage"))
    sampled = _count(usage.get("completion_tokens")) if len(raw) == 1 else None
    cached = _count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
    if cached is None:
        cached = _count(_mapping(answer.get("timings")).get("cache_n"))  # llama.cpp
    return Answer(
        choices=tuple(_choice(choice, sampled, chat) for choice in raw),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=cached,
    )


def _choice(raw: Any, sampled: int | None, chat: bool) -> CompletionChoice:
    choice = _mapping(raw)
    finish = choice.get("finish_reason")
    text = _said(_mapping(choice.get("message"))) if chat else choice.get("text")
    if not isinstance(text, str) or finish not in ("stop", "length"):
        said = f"text {str(text)[:80]!r} and finish_reason {shown(finish)}"
        expected = "expected text that ends with 'stop' or 'length'"
        raise EngineError(f"the server answered a choice with {said}; {expected}", said)
    why = next((name for name in ("stop_reason", "matched_stop") if name in choice), None)
    reason = None if why is None else choice[why]  # an int is an end token's id
    ids = choice.get("token_ids")
    if ids is not None and not (isinstance(ids, list) and all(type(one) is int for one in ids)):
        said = shown(ids)
        raise EngineError(f"the server answered token ids that are no list of them: {said}", said)
    strings, logprobs = _per_token(_mapping(choice.get("logprobs")))
    # llama.cpp does not say, but lists the tokens of a stop string in no case, and the model's
    # end, which has no text, in every case.
    at_own_end = finish == "stop" and strings[-1:] == ("",)
    return CompletionChoice(
        text=text,
        finish_reason=finish,
        stop_reason=reason if isinstance(reason, str) else None,
        says_why=why is not None or at_own_end,
        token_ids=None if ids is None else tuple(ids),
        strings=strings,
        logprobs=logprobs,
        tokens=sampled if ids is None else len(ids),
    )


def _said(message: Mapping[str, Any]) -> str | None:
    """What a chat's turn says; a thought that the server has taken out is put back before it."""
    text, thought = message.get("content"), message.get("reasoning_content")
    if isinstance(thought, str) and thought:
        return f"<think>{thought}</think>{text if isinstance(text, str) else ''}"
    return text if isinstance(text, str) else None


def _per_token(logprobs: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Strings and log-probabilities of the sampled tokens; empty if they are not reported.

    As the completions API has them, or (llama.cpp) the chat API.
    """
    content = logprobs.get("content")
    strings: Any = logprobs.get("tokens")
    values: Any = logprobs.get("token_logprobs")
    if isinstance(content, list):
        strings = [_mapping(one).get("token") for one in content]
        values = [_mapping(one).get("logprob") for one in content]
    if not (_all(strings, str) and _all(values, int | float) and len(strings) == len(values)):
        return (), ()
    return tuple(strings), tuple(values) if all(map(isfinite, values)) else ()


def _all(values: Any, kind: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def joined(first: CompletionChoice, rest: CompletionChoice, between: str) -> CompletionChoice:
    """One choice made of two, the second sampled after the first.

    between: what ended the first, where the server cuts that off.
    """
    exact = first.token_ids is not None and rest.token_ids is not None
    return replace(
        rest,
        text=first.text + between + rest.text,
        token_ids=(*(first.token_ids or ()), *(rest.token_ids or ())) if exact else None,
        strings=first.strings + rest.strings,
        logprobs=first.logprobs + rest.logprobs,
        tokens=total([first.tokens, rest.tokens]),
    )


def exact_continuation(
    choice: CompletionChoice, sampling: Sampling, delimiter: str, ahead: str
) -> Continuation:
    """Steps of a choice that reports token ids, and keeps its stop string in the text.

    ahead: as of `ChainEncoder.split`.
    """
    finish = _finish(choice, sampling, delimiter)
    text = choice.text
    if finish == "stop" and choice.stop_reason is not None:
        text = text.partition(choice.stop_reason)[0]
    elif finish == "step":
        text = up_to_last_token(choice).text
    return Continuation(_cut(choice, text, delimiter, finish, ahead), choice.tokens)


def text_continuation(
    choice: CompletionChoice, sampling: Sampling, delimiter: str, ahead: str
) -> Continuation:
    """Steps of a choice that reports text only, from which the server cut the stop string.

    In step mode, some do not say whether the delimiter or the model's own end came. Then text
    counts as a step, and gets the delimiter back; no text means that the solution has ended. Such
    servers stop at the delimiter alone, so a text may hold several steps with headings.
    """
    if sampling.until == "end":
        finish: FinishReason = "stop" if choice.finish_reason == "stop" else "length"
        if len(choice.strings) != choice.tokens:
            steps = split_text(choice.text, finish, delimiter, choice.tokens)
        else:
            steps = _cut(choice, choice.text, delimiter, finish, ahead)
        return Continuation(steps, choice.tokens)
    if choice.finish_reason == "length":
        finish = "length"
    elif ended_by(choice, (delimiter,)) and choice.text.strip():
        finish = "step"
    else:
        finish = "stop"
    text = choice.text + delimiter if finish == "step" else choice.text
    steps = split_text(ahead + text, finish, delimiter, choice.tokens)
    if len(steps) == 1:
        steps = (replace(steps[0], logprob=_mean(choice.logprobs)),)
    return Continuation(steps, choice.tokens)


def ended_by(choice: CompletionChoice, stops: Collection[str]) -> bool:
    """Whether one of these ended it, or may have, where the server does not say."""
    if choice.finish_reason != "stop":
        return False
    return choice.stop_reason in stops or not choice.says_why


def up_to_last_token(choice: CompletionChoice) -> CompletionChoice:
    """The choice with what its last token says after a stop string.

    vLLM cuts that from the text, but not from the tokens; SGLang cuts it from neither.
    """
    text, strings, stop = choice.text, choice.strings, choice.stop_reason
    if stop is None:
        return choice
    sampled = "".join(strings)
    last = len(strings[-1]) if strings else 0
    in_text = text.find(stop, max(0, len(text) - last - len(stop) + 1))
    at = sampled.find(stop, max(0, len(sampled) - last - len(stop) + 1))
    if in_text < 0 or at < 0:
        return choice
    return replace(choice, text=text[:in_text] + sampled[at:])


def _finish(choice: CompletionChoice, sampling: Sampling, delimiter: str) -> FinishReason:
    if choice.finish_reason == "length":
        return "length"
    at_step = sampling.until == "step" and choice.stop_reason in step_stops(delimiter)
    return "step" if at_step else "stop"


def _cut(
    choice: CompletionChoice, text: str, delimiter: str, finish: FinishReason, ahead: str
) -> tuple[Step, ...]:
    """Cut text and tokens where steps end; the steps' token ids joined are the choice's, if any.

    The tokens' own strings differ from the text only in characters that span tokens and after the
    end of the text, so the k-th step ends at the k-th end of both.
    """
    ids = choice.token_ids
    count = len(choice.strings) if ids is None else len(ids)
    reached = list(accumulate(len(string) for string in choice.strings))
    ends = list(step_ends(ahead + text, delimiter))
    same = list(step_ends(ahead + "".join(choice.strings), delimiter))[: len(ends)]
    if ends and (len(same) < len(ends) or len(reached) != count):
        return split_text(ahead + text, finish, delimiter, choice.tokens)
    cuts = [(0, 0)]
    for in_strings, in_text in zip(same, ends, strict=True):
        known = in_strings.known - len(ahead)
        token = bisect_left(reached, known) + 1
        # Where the delimiter tells, the whole token belongs to the step that it completes.
        rest = reached[token - 1] - known if in_text.at == in_text.known else 0
        char = max(0, in_text.at - len(ahead) + rest)
        if cuts[-1][0] < token <= count and char < len(text.rstrip()):
            cuts.append((token, char))
    cuts.append((count, len(text)))
    steps = cut_steps(cuts, ids or range(count), text, finish, choice.logprobs, ahead)
    return steps if ids is not None else tuple(replace(step, token_ids=None) for step in steps)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def total(counts: Iterable[int | None]) -> int | None:
    """Their sum, or None if one of them is unknown."""
    values = list(counts)
    known = [count for count in values if count is not None]
    return sum(known) if len(known) == len(values) else None
