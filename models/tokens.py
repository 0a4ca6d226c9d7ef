"""Chains as tokens: prompts that join without drift, and sampled tokens cut into steps.

A chain's prompt is the rendered problem followed by the very tokens that the engine sampled, never
by re-tokenised text. So a longer chain starts with its parent's tokens (the engine's prefix cache
hits), and a chat template that trims assistant text cannot touch them.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from router.models.errors import InputError, PromptTooLong
from router.models.prompts import Prompt, forms
from router.models.steps import step_ends
from router.models.thoughts import is_marker, opens_thought
from router.models.types import Chain, FinishReason, Message, Problem, Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RECENT_PROBLEMS = 1024
_TAIL = 32  # tokens of a prompt, more than any marker has

logger = logging.getLogger("router")

NEXT_TURN: Final = (
    "\nHuman:",
    "\nUser:",
    "\nQuestion",
    "\nProblem",
    "\nExercise",
    "\nInstruction:",
)
"""Where a base model, which knows no end of a turn, begins the next one."""


class ChainEncoder:
    """Turns chains into token ids, and sampled token ids into steps, for one model and prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.prompt_ids = lru_cache(_RECENT_PROBLEMS)(self._prompt_ids)
        unknown = [name for name in prompt.template_args if name not in str(self._template)]
        if unknown:
            logger.warning("the model's chat template does not use %s", ", ".join(unknown))

    @property
    def _template(self) -> object:
        return self.tokenizer.chat_template

    @property
    def rendering(self) -> str:
        """How problems are written for the model, in words."""
        return "the model's chat template" if self._template else PARAGRAPHS

    def stops(self, chain: Chain) -> tuple[str, ...]:
        """Strings that end what continues `chain`, besides those that the caller asks for."""
        return () if self._template else next_turns(chain)

    def _prompt_ids(self, problem: Problem) -> tuple[int, ...]:
        """Token ids of the rendered problem, up to where the answer starts.

        A tokenizer without a chat template (a base model) gets the turns as plain paragraphs. A
        template that refuses the turns, or leaves the system text out, gets them in the next of
        their `forms` that it takes.

        Raises:
            InputError: the model's chat template refuses these turns in every form.
        """
        turns = self.prompt.messages(problem)
        if not self._template:
            return tuple(self.tokenizer.encode(paragraphs(turns)))
        from jinja2 import TemplateError

        rendered, refusals = [], []
        for form in dict.fromkeys(forms(turns)):
            try:
                ids = self.tokenizer.apply_chat_template(
                    [{"role": turn.role, "content": turn.content} for turn in form],
                    add_generation_prompt=True,
                    return_dict=False,
                    **self.prompt.template_args,
                )
            except TemplateError as error:
                refusals.append(error)
                continue
            rendered.append(tuple(ids))
            if _same_letters(turns[0].content) in _same_letters(self.tokenizer.decode(list(ids))):
                return rendered[-1]
        if rendered:
            return rendered[0]
        roles = ", ".join(turn.role for turn in turns)
        why = f"prompt {self.prompt.id!r} with turns ({roles}): {refusals[0]}"
        logger.info("the model's chat template refuses %s", why)
        raise InputError(
            f"the model's chat template refuses {why}; choose another prompt"
        ) from refusals[0]

    @cached_property
    def thinks(self) -> bool:
        """Whether its prompts end inside a thought; False where the template takes none."""
        try:
            ids = self.prompt_ids(Problem("probe", "1 + 1 = ?"))
        except InputError:
            return False
        return opens_thought(self.tokenizer.decode(ids[-_TAIL:], skip_special_tokens=False))

    def chain_ids(self, chain: Chain) -> list[int]:
        """Prompt token ids that continue `chain`: the rendered problem, then every step's tokens.

        Text is encoded only for a step whose engine gave no token ids.
        """
        ids = list(self.prompt_ids(chain.problem))
        for step in chain.steps:
            if step.token_ids is None:
                ids += self.tokenizer.encode(step.text, add_special_tokens=False)
            else:
                ids += step.token_ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled tokens, without special ones, but for those that mark thoughts."""
        hidden = self._hidden
        text: str = self.tokenizer.decode(
            list(token_ids) if hidden is None else [i for i in token_ids if i not in hidden],
            skip_special_tokens=hidden is None,
            clean_up_tokenization_spaces=False,
        )
        return text

    @cached_property
    def _hidden(self) -> frozenset[int] | None:
        """The special tokens that are no markers of thoughts; None if all of them are none."""
        special = {
            token: str(added)
            for token, added in self.tokenizer.added_tokens_decoder.items()
            if added.special
        }
        hidden = frozenset(token for token, text in special.items() if not is_marker(text))
        return hidden if len(hidden) < len(special) else None

    def split(
        self,
        token_ids: Sequence[int],
        finish: FinishReason,
        stop: Sequence[str] = (),
        logprobs: Sequence[float] | None = None,
        ahead: str = "",
    ) -> tuple[Step, ...]:
        """Cut one sampled continuation into steps, each ending with the token that completes it.

        The steps' `token_ids` joined are `token_ids`, so their `tokens` add up to the engine's
        own count, end-of-text tokens included; the latter have no text. The steps' texts joined
        are the decoded text, up to the first of the `stop` strings (which makes finish `stop`).
        Blank stretches never make a step: they belong to the step before them, or to the first.

        token_ids: everything that the engine counts as sampled, shape (tokens,).
        finish: why the engine ended; the last step gets it, the others get `step`.
        logprobs: log-probability of each token, shape (tokens,); steps carry their mean.
        ahead: of the step before, the text with which the first of these begins.
        """
        text = self.decode(token_ids)
        stops = [at for at in (text.find(string) for string in stop) if at >= 0]
        end = min(stops, default=len(text))
        if stops:
            finish = "stop"
        cuts = self._cuts(token_ids, text, end, ahead)
        return cut_steps(cuts, token_ids, text[:end], finish, logprobs or (), ahead)

    def _cuts(
        self, token_ids: Sequence[int], text: str, end: int, ahead: str
    ) -> list[tuple[int, int]]:
        """(token index, character index) of the start, of each inner step boundary, and the end."""
        content_end = len(text[:end].rstrip())
        cuts, decoded = [(0, 0)], [(0, 0)]
        for step in step_ends(ahead + text[:end], self.prompt.delimiter):
            known, at = step.known - len(ahead), max(0, step.at - len(ahead))
            # Decoding from the step before the last cut costs the same anywhere in a long text. Not
            # from the cut itself: some tokenizers drop a space at the start of a text.
            start = decoded[-2:][0][0]
            cut = self._cut(token_ids, text, known, decoded[-1], start)
            cut = cut or self._cut(token_ids, text, known, decoded[-1], 0)
            assert cut is not None  # all tokens decode to `text`
            at = cut[1] if step.at == step.known else at
            if cut[0] > cuts[-1][0] and at < content_end:
                decoded.append(cut)
                cuts.append((cut[0], at))
        return [*cuts, (len(token_ids), len(text))]

    def _cut(
        self, token_ids: Sequence[int], text: str, char: int, last: tuple[int, int], start: int
    ) -> tuple[int, int] | None:
        """The first cut between whole characters that has `text[:char]` before it.

        last: the cut before it. start: token from which to decode; None is returned where what
        is decoded from there does not fit `text` (a character was cut in two there).
        """
        # Decoding is the only mapping from characters to tokens that holds for every tokenizer.
        known, known_char = last
        first_char = known_char - len(self.decode(token_ids[start:known]))
        head = text[first_char:char]

        def reaches(count: int) -> bool:
            return self.decode(token_ids[start:count]).startswith(head)

        # `head` ends in a whole character, so longer stretches keep it: gallop, then bisect.
        low, high = known, known + 1
        while high < len(token_ids) and not reaches(high):
            low, high = high, 2 * high - known
        for count in range(
            bisect_left(range(min(high, len(token_ids))), True, lo=low, key=reaches),
            len(token_ids) + 1,
        ):
            decoded = self.decode(token_ids[start:count])
            if len(decoded) >= len(head) and text.startswith(decoded, first_char):
                return count, first_char + len(decoded)
        return None


def _same_letters(text: str) -> str:
    """Without blanks, which templates trim and some tokenizers do not give back."""
    return "".join(text.split())


PARAGRAPHS: Final = "plain paragraphs, as for a base model: it has no chat template"


def paragraphs(turns: Sequence[Message]) -> str:
    """A chat as a base model reads it."""
    return "".join(f"{turn.content}\n\n" for turn in turns)


def next_turns(chain: Chain) -> tuple[str, ...]:
    """What `NEXT_TURN` looks like after `chain`, whose last step has ended its line."""
    return tuple(mark.lstrip() for mark in NEXT_TURN) if chain.steps else NEXT_TURN


def cut_steps(
    cuts: Sequence[tuple[int, int]],
    token_ids: Sequence[int],
    text: str,
    finish: FinishReason,
    logprobs: Sequence[float] = (),
    ahead: str = "",
) -> tuple[Step, ...]:
    """The steps between cuts: token and character indices; the rest as of `ChainEncoder.split`."""
    steps = []
    for (start, from_char), (stop, to_char) in pairwise(cuts):
        ids = tuple(token_ids[start:stop])
        mean = sum(logprobs[start:stop]) / len(ids) if logprobs and ids else None
        steps.append(Step(text[from_char:to_char], "step", len(ids), ids, mean))
    steps[0] = replace(steps[0], text=ahead + steps[0].text)
    if finish == "step" and len(steps) > 1 and not steps[-1].tokens:
        # Only its heading was sampled, which told that the step before it had ended.
        begun = steps.pop()
        steps[-1] = replace(steps[-1], ahead=begun.text)
    steps[-1] = replace(steps[-1], finish=finish)
    return tuple(steps)


def text_ends(steps: Sequence[Step], special: Collection[int]) -> list[int]:
    """How many sampled tokens there are up to each step's last token that is not special.

    Where a step has special tokens only, it is the end of the text before it: 0 is the prompt's.
    """
    ends: list[int] = []
    sampled = text_end = 0
    for step in steps:
        for token in step.token_ids or ():
            sampled += 1
            if token not in special:
                text_end = sampled
        ends.append(text_end)
    return ends


def room(
    prompt_tokens: int, context: int, max_tokens: int, remedy: str = "shorten the problem"
) -> int:
    """How many tokens may be sampled: `max_tokens`, cut to what the context has left.

    remedy: what to do where nothing is left.

    Raises:
        PromptTooLong: not even one token fits after the prompt.
    """
    left = context - prompt_tokens
    if left < 1:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens} tokens, and the model's context of {context} leaves "
            f"no room for an answer; {remedy}"
        )
    return min(max_tokens, left)
