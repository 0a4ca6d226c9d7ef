r"""Input formats of process reward models (PRMs) as data.

A format says how a problem and its steps become tokens (`layout`), which output at which of those
tokens is a step's score (`head`), and how the scores of a solution's steps become one
(`aggregation`). Adding a PRM is adding an entry to `FORMATS`; an engine needs no new code.

All layouts share three rules. A step's text is stripped, so its trailing delimiter is no empty
step of its own (the references score one there). A step without text takes the score of the step
before it, for it adds nothing. Nothing follows the last read: the models are causal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from router.models.base import Aggregation
from router.models.errors import InputError, ModelError, VerifierError
from router.models.types import Chain, Problem, Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from router.models.tokens import ChainEncoder


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chain as a PRM reads it.

    ids: token ids, shape (tokens,), ending with the last read.
    reads: index into `ids` where each step's score is read, shape (steps,), never decreasing.
    opening: index of the first token of the steps, where the layout tells it.
    """

    ids: tuple[int, ...]
    reads: tuple[int, ...]
    opening: int = 0


class Layout(Protocol):
    """How a chain becomes tokens.

    `encoder` holds the PRM's tokenizer and, for PRMs that read the generator's own tokens, the
    generator's prompt. Raises ModelError when the tokenizer does not fit the layout.
    """

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class TaggedText:
    """One text `problem step tag \\n step tag …`; scores are read at the tags."""

    tag: str

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded:
        tag_id = single_token(encoder.tokenizer, self.tag)
        text = chain.problem.text
        ends: list[int] = []
        for step in chain.steps:
            content = step.text.strip()
            if content or not ends:
                text += ("\n" if ends else " ") + f"{content} {self.tag}"
            ends.append(len(text))
        # Encoded whole, since a SentencePiece tokenizer marks the start of every text; the tags
        # are found by their characters, since the problem may contain the tag's text too.
        tokens = encoder.tokenizer(text)
        reads = tuple(tokens.char_to_token(end - 1) for end in ends)
        ids = tuple(tokens["input_ids"])
        if any(ids[at] != tag_id for at in reads):
            raise ModelError(f"this tokenizer does not keep the step tag {self.tag!r} one token")
        return _until_last_read(ids, reads)


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """A chat: the user says the problem and step 1, then a step a turn; the PRM says `reply`.

    A score is read at the token that predicts the reply, the last of the reply's header.
    """

    reply: str

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded:
        # Rendered once, with marks where the replies will be.
        mark = f"[{uuid4().hex}]"
        chat: list[dict[str, str]] = []
        turns: list[int] = []
        for step in chain.steps:
            content = step.text.strip()
            if content or not turns:
                if chat:
                    chat.append({"role": "assistant", "content": mark})
                else:
                    content = f"{chain.problem.text} {content}"
                chat.append({"role": "user", "content": content})
            turns.append(len(chat) // 2)
        if not chat:
            return _until_last_read((), ())
        pieces = _chat_text(encoder, chat).split(mark)
        if len(pieces) != len(chat) // 2 + 1:
            raise ModelError("this chat template rewrites earlier turns; PRM turns do not")
        ends = list(accumulate(len(piece) + len(self.reply) for piece in pieces))
        tokens = encoder.tokenizer(self.reply.join(pieces), add_special_tokens=False)
        reads = tuple(tokens.char_to_token(ends[at] - len(self.reply) - 1) for at in turns)
        return _until_last_read(tuple(tokens["input_ids"]), reads)


@dataclass(frozen=True, slots=True)
class TaggedLines:
    r"""`opening`, then every line of every step encoded by itself and followed by a newline token.

    A score is read at the newline of the step's last line. Blank lines are left out.

    opening: text before the steps; `{problem}` stands for the problem's text.
    """

    opening: str

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded:
        newline = single_token(encoder.tokenizer, "\n")
        ids = _encode(encoder, self.opening.replace("{problem}", chain.problem.text))
        reads: list[int] = []
        for step in chain.steps:
            lines = [line for line in step.text.strip().split("\n") if line.strip()]
            if not lines and not reads:
                lines = [""]
            for line in lines:
                ids += [*_encode(encoder, line), newline]
            reads.append(len(ids) - 1)
        return _until_last_read(tuple(ids), tuple(reads))


@dataclass(frozen=True, slots=True)
class TaggedChat:
    """One chat whose assistant's turn is the steps, each followed by the tag; read at the tags.

    tag_id: given as an id, since a tokenizer may lack or split the tag's text.
    """

    system: str
    tag_id: int

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded:
        chat = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": chain.problem.text},
        ]
        ids = _encode(encoder, _chat_text(encoder, chat))
        reads: list[int] = []
        for step in chain.steps:
            if step.text.strip() or not reads:
                ids += [*_encode(encoder, step.text.strip()), self.tag_id]
            reads.append(len(ids) - 1)
        return _until_last_read(tuple(ids), tuple(reads))


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """The generator's own tokens, nothing added; read at each step's last token that has text."""

    def encode(self, chain: Chain, encoder: ChainEncoder) -> Encoded:
        special = set(encoder.tokenizer.all_special_ids)
        ids = list(encoder.chain_ids(Chain(chain.problem)))
        opening = len(ids)
        at = opening - 1
        reads: list[int] = []
        for step in chain.steps:
            own = step.token_ids
            if own is None:
                own = tuple(_encode(encoder, step.text))
            for offset, token in enumerate(own):
                if token not in special:
                    at = len(ids) + offset
            ids += own
            reads.append(at)
        return replace(_until_last_read(tuple(ids), tuple(reads)), opening=opening)


@dataclass(frozen=True, slots=True)
class PairLogits:
    """Softmax over two words of the language model's vocabulary; the score is P(good)."""

    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class ValueHead:
    """Sigmoid of one linear layer on the last hidden state; `prefix` names its weights."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ClassHead:
    """Linear-ReLU-Linear to two classes on the last hidden state; the score is P(class `good`)."""

    prefix: str
    good: int


@dataclass(frozen=True, slots=True)
class MeanHead:
    """Linear-ReLU-Linear to two numbers on the last hidden state of every token of the steps.

    The score is the sigmoid of the first number where it is read plus the mean of the second over
    the steps' tokens so far.
    """

    prefix: str


TokenHead = ClassHead | MeanHead
"""Heads that are small networks on every token's state: what we train, and what vLLM can serve."""

Head = PairLogits | ValueHead | TokenHead


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """One PRM family.

    models: full hub ids of the published models that use it.
    architectures: what only this family's `config.json` says, so that a directory tells.
    """

    id: str
    layout: Layout
    head: Head
    aggregation: Aggregation
    models: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()


SELF = "self"
"""Id of self-verification: a head on the generator's own hidden states at one layer."""

SELF_MEAN = "self-mean"
"""Id of the same with a head that reads the mean over a solution's tokens besides."""

OWN = (SELF, SELF_MEAN)
"""Ids of the formats whose heads can read what the generator's engine hands out."""

FORMATS: Mapping[str, PrmFormat] = {
    entry.id: entry
    for entry in (
        # Wang et al. 2023 (arXiv 2312.08935): model card for the text (ids: tag 12902, good 648,
        # bad 387); a solution's score is the minimum over its steps.
        PrmFormat(
            "math-shepherd",
            TaggedText(tag="ки"),
            PairLogits(good="+", bad="-"),
            aggregation="min",
            models=("peiyi9979/math-shepherd-mistral-7b-prm",),
        ),
        # RLHFlow/RLHF-Reward-Modeling, math-rm/prm_evaluate.py: turns, read at index -3 of a chat
        # that ends "+", <|eot_id|>; mean over steps.
        PrmFormat(
            "rlhflow",
            ChatTurns(reply="+"),
            PairLogits(good="+", bad="-"),
            aggregation="mean",
            models=(
                "RLHFlow/Llama3.1-8B-PRM-Mistral-Data",
                "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data",
            ),
        ),
        # SkyworkAI/skywork-o1-prm-inference. Its authors name no aggregation; `last` voted best in
        # Liu et al. 2025 (arXiv 2502.06703, table 2).
        PrmFormat(
            "skywork",
            TaggedLines(opening="<|im_start|>{problem}\n"),
            ValueHead(prefix="v_head.summary"),
            aggregation="last",
            models=(
                "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B",
                "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B",
            ),
            architectures=("Qwen2ForPrmModel",),
        ),
        # Model card of Qwen2.5-Math-PRM; product over steps (Zhang et al. 2025, arXiv 2501.07301).
        # 151651 is <extra_0>.
        PrmFormat(
            "qwen-prm",
            TaggedChat(
                system=r"Please reason step by step, and put your final answer within \boxed{}.",
                tag_id=151651,
            ),
            ClassHead(prefix="score", good=1),
            aggregation="prod",
            models=("Qwen/Qwen2.5-Math-PRM-7B", "Qwen/Qwen2.5-Math-PRM-72B"),
            architectures=("Qwen2ForProcessRewardModel",),
        ),
        # Ours: the head was trained on the generator's own states. Its measured aggregation is
        # stored beside it and takes the place of this one.
        PrmFormat(SELF, OwnTokens(), ClassHead(prefix="score", good=1), aggregation="last"),
        PrmFormat(SELF_MEAN, OwnTokens(), MeanHead(prefix="score"), aggregation="last"),
    )
}


def get_format(format_id: str) -> PrmFormat:
    """The registered format of that id.

    Raises:
        InputError: no such id; names the nearest one.
    """
    if format_id not in FORMATS:
        near = get_close_matches(format_id, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FORMATS)}"
        raise InputError(f"no verifier format {format_id!r}; {hint}")
    return FORMATS[format_id]


def known_format(model: str, architectures: tuple[str, ...] = ()) -> PrmFormat:
    """The format of a published model (full hub id), or the one its architecture names.

    Raises:
        InputError: neither tells.
    """
    for entry in FORMATS.values():
        if model in entry.models or set(architectures) & set(entry.architectures):
            return entry
    says = f" (its config.json says {', '.join(architectures)})" if architectures else ""
    raise InputError(
        f"cannot tell in which format verifier {model!r} wants its input{says}; "
        f"say --verifier-format, one of: {', '.join(FORMATS)}"
    )


def check_tokenizer(prm: PrmFormat, encoder: ChainEncoder) -> None:
    """Try the format on a small chain, so that a wrong tokenizer shows before the weights load.

    Raises:
        ModelError: the tokenizer lacks a token or a chat template that the format needs, or its
            template writes a chain's first steps otherwise once there are more.
    """
    first = Chain(Problem("try", "1 + 1")).extend(Step("It is 2.\n\n", "step"))
    short = prm.layout.encode(first, encoder).ids
    longer = prm.layout.encode(first.extend(Step("So 2.", "stop")), encoder).ids
    if longer[: len(short)] != short:
        raise ModelError("this chat template rewrites earlier turns; PRM turns do not")


def single_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """The id of a text that must be one token.

    Raises:
        ModelError: this tokenizer splits it, so it is not the tokenizer of the format's models.
    """
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        raise ModelError(
            f"the verifier's tokenizer splits {text!r} into {len(ids)} tokens, and its format "
            "needs it to be one; is the format right?"
        )
    return ids[0]


def checked_scores(values: Sequence[float], chain: Chain, verifier: str) -> tuple[float, ...]:
    """The values, if every one is a probability.

    Raises:
        VerifierError: one is not; names the verifier, the problem and the step.
    """
    first = chain.depth - len(values)
    for step, value in enumerate(values, start=first + 1):
        if not 0.0 <= value <= 1.0:  # false for NaN too
            raise VerifierError(
                f"verifier {verifier} scored step {step} of {chain.depth} of problem "
                f"{chain.problem.id!r} as {value}, which is no probability"
            )
    return tuple(values)


def _chat_text(encoder: ChainEncoder, chat: list[dict[str, str]]) -> str:
    """The turns as text, with the header of the assistant's next one."""
    from jinja2 import TemplateError

    try:
        text = encoder.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=False
        )
    except (TemplateError, ValueError) as error:
        raise ModelError(
            f"the verifier's tokenizer has no fitting chat template: {error}"
        ) from error
    return str(text)


def _encode(encoder: ChainEncoder, text: str) -> list[int]:
    ids: list[int] = encoder.tokenizer.encode(text, add_special_tokens=False)
    return ids


def _until_last_read(ids: tuple[int, ...], reads: tuple[int, ...]) -> Encoded:
    return Encoded(ids[: reads[-1] + 1] if reads else (), reads)
