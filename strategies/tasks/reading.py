r"""Where a solution states its final answer: `\boxed{…}`, "the answer is …", `#### …`.

Takes time linear in the text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from router.models.thoughts import thoughts

WINDOW = 2000
"""Characters after `\\boxed` or "the answer is" in which the answer must end."""

DELIMITED = re.compile(
    r"\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|(?<!\\)\$\$?(?P<dollar>(?:[^$\\]|\\.)+)\$",
    re.DOTALL,
)
"""Mathematics between its delimiters; the last group is what is between them."""

WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf|it))\s*\{")
"""What opens words inside mathematics."""

_MOST = 1000  # phrases that are looked at
_NEAR = 200  # characters in which a stated answer is freed from emphasis
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"[^\s${}]+")
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?[\[<(]? ?(?:(?:the|your|my|final|numerical) )*"
    r"(?:answers?|result|number|letter)(?: here)?[\])>]?\}?"
    r"|\.{2,}|…|\\[lc]?dots|\?+|_+|□|\\square|(?:最终)?答案",
    re.IGNORECASE,
)
_SUBJECTS = (  # and the verbs that state them, in other languages than English
    r"(?:答案|正解|答え?)\**\s*(?:应该是|应为|是|为|は|[:：=])|(?:정답|답)\**\s*(?:은|는|[:：])"
    r"|\b(?:antwort|ergebnis|lösung)\**\s*(?:ist|lautet|beträgt|[:=])"
    r"|\br[ée]ponse(?: finale)?\**\s*(?:est|:)|\brespuesta(?: final)?\**\s*(?:es|:)"
    r"|\brisposta(?: finale)?\**\s*(?:è|:)|\bresposta(?: final)?\**\s*(?:é|:)"
    r"|\bantwoord\**\s*(?:is|:)|\bответ\**\s*[:—–-]|\bodpowiedź\**\s*(?:to|:)|\bcevap\**\s*:"
    r"|đáp án\**\s*(?:là|:)"
)
_PHRASE = re.compile(
    r"(?=[acelor#<đо答正정답])"  # most characters begin none
    r"(?:\b(?P<noun>answer(?=s?\b)|option|choice|letter)(?:(?<=wer)s)?\**"
    r"(?: (?:to|for|in|of) [^.\n:=]{1,60}?)?\s*"
    r"(?P<verb>\b(?:is|are|(?:should|must|will|would) be)\b|:|=)"
    rf"|(?P<tag><answer>)|(?P<foreign>{_SUBJECTS})|(?<!#)####(?!#))\s*[:：]?\s*",
    re.IGNORECASE,
)
_REVERSED_PUNCTUATION = re.compile(r"(?:[.,;:。．，；： ]\\?)+")
_SENTENCE_END = re.compile(
    r"(?<!\b[ie]\.[eg])[.!?](?=\s|$)|[。！？\n]|，(?=因为|所以|即)"
    r"|,? (?:because|since)\b|</answer>",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w(\\])")

# "is" may also say something about the answer, instead of stating it.
_ADVERB = (
    r"(?:(?:indeed|also|now|then|thus|therefore|hence|clearly|simply|just|obviously|still|actually"
    r"|, of course),? )?"
)
_REMARK = re.compile(
    rf"{_ADVERB}(?:(?:(?:in)?(?:correct|consistent|valid|complete|accurate|exact)|right|wrong|clear"
    r"|obvious|plausible|(?:un)?reasonable|verified|confirmed|unique|(?:as follows|below|above)"
    r"|(?:in)?dependent|simple|easy|known|ready|close|positive|negative)"
    r"(?=\s*(?:[.,;:!?]|$|(?:and|as|because|for|if|of|on|since|that|to|when|with)\b))"
    r"|(?:\w+ed|found|given|shown|in) (?:after|as|by|from|if|in|the|through|to(?! be)|using|via"
    r"|when|with)\b|not (?=[\d$\\-]))",
    re.IGNORECASE,
)
_LEAD = re.compile(
    rf"{_ADVERB}(?:(?:approximately|about|roughly|exactly|equal to|(?:\w+ed|found|given|shown)"
    r" (?:to be|as:|by:?(?= ?[$\\])))[:,]? )?"
    r"(?:the (?:number|value|following|total)[: ] ?(?=[-−\d$\\]))?",
    re.IGNORECASE,
)
_SPEAKER = re.compile(
    r"\n[ \t]*[*#]*[ \t]*(?:human|user|用户|utilisateur|usuario|nutzer)\**\s*[:：]"
    r"|<\|(?:im_start|im_end|endoftext|eot_id|end|user|start_header_id|begin_of_text)\|>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|</s>",
    re.IGNORECASE,
)
_NEXT_PROBLEM = re.compile(
    r"\n[ \t]*[*#]*[ \t]*(?:question|problem|exercise|example|instruction|q|问题|题目|例题)\**"
    r"(?: ?\d+)?\**\s*[:：]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What follows a phrase that states an answer, to the end of its window.

    rest: the text there. noun: `answer`, `option`, `choice`, `letter`; empty after `####`. colon:
    the phrase ended in `:` or `=`, not in "is". last: nothing follows the line it is on.
    """

    rest: str
    noun: str
    colon: bool
    last: bool

    @property
    def line(self) -> str:
        return self.rest.partition("\n")[0]

    @property
    def sentence(self) -> str:
        """To the end of the sentence, or to where its reason begins."""
        end = _SENTENCE_END.search(self.rest)
        return self.rest[: end.start()] if end else self.rest


def last_boxed(text: str) -> str | None:
    r"""What the last closed `\boxed{…}` holds; boxes of nothing do not count."""
    boxes = [match.end() for match in _BOX.finditer(text)]
    closing = _closing_braces(text) if boxes else {}
    for start in reversed(boxes):
        if text.startswith("{", start):
            end = closing.get(start, start + WINDOW)
            content = text[start + 1 : end] if end < start + WINDOW else None
        else:  # `\boxed 5`
            bare = _BARE.match(text, start, start + WINDOW)
            content = bare.group() if bare else None
        answer = tidy(content) if content else None
        if answer is not None and not _PLACEHOLDER.fullmatch(answer):
            return answer
    return None


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that is closed is closed."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def statements(text: str) -> Iterator[Statement]:
    """What seems to state an answer, the last one first; no remarks on an answer."""
    filled = len(text.rstrip())
    for match in reversed(deque(_PHRASE.finditer(text), maxlen=_MOST)):
        start = match.end()
        is_colon = match["verb"] in (":", "=") or ":" in match.group() or match["tag"] is not None
        noun = "answer" if match["foreign"] or match["tag"] else (match["noun"] or "").lower()
        rest = text[start : start + WINDOW].lstrip("*_ \n")
        if "\n" in match.group():
            rest = rest.removeprefix("- ")  # a list of one
        if not is_colon and noun and _REMARK.match(rest):
            continue
        if noun:
            rest = rest[_LEAD.match(rest).end() :]  # type: ignore[union-attr]
        end_of_line = text.find("\n", start, start + WINDOW)
        last = filled <= (end_of_line if end_of_line >= 0 else start + WINDOW)
        rest = _EMPHASIS.sub("", rest[:_NEAR]) + rest[_NEAR:]
        yield Statement(rest, noun, is_colon, last)


def parts(text: str, truncated: bool) -> Iterator[tuple[str, bool]]:
    """What of a solution may state its answer, in the order to look, and whether that was cut.

    Not what the model thought before it spoke, if it spoke, nor what it then put into the mouth of
    the user. A thought that nothing follows is read as if it were cut: it may go on. Before the
    whole comes what is before another problem, which some models go on to pose.
    """
    text, truncated = _said(text, truncated)
    head = _before_next_problem(text)
    if head is not None:
        yield head, False
    yield text, truncated


def _said(text: str, truncated: bool) -> tuple[str, bool]:
    thought, rest = thoughts(text)
    if thought is not None and not rest:
        return thought, True
    rest = rest.lstrip()
    speaker = _SPEAKER.search(rest)
    return (rest[: speaker.start()], False) if speaker and speaker.start() else (rest, truncated)


def is_stated(text: str) -> bool:
    """Whether a text has a box, or a phrase that states an answer."""
    return _BOX.search(text) is not None or _PHRASE.search(text) is not None


def _before_next_problem(text: str) -> str | None:
    """What is before the first problem that comes after a phrase or box; None if none does."""
    if not _NEXT_PROBLEM.search(text):
        return None
    boxed = _BOX.search(text)
    phrase = _PHRASE.search(text)
    first = min((match.end() for match in (boxed, phrase) if match), default=len(text))
    following = _NEXT_PROBLEM.search(text, first)
    return text[: following.start()] if following else None


def tidy(answer: str) -> str | None:
    """The answer without delimiters, emphasis and final punctuation; None if nothing is left."""
    answer = " ".join(answer.split()).strip("*_ ")
    punctuation = _REVERSED_PUNCTUATION.match(answer[::-1])
    if punctuation:
        answer = answer[: len(answer) - punctuation.end()]
    delimited = DELIMITED.fullmatch(answer)
    if delimited:
        answer = delimited.group(delimited.lastgroup or 0).strip()
    return answer or None


def whole_words(text: str) -> str:
    """A cut text without its last word, which the cut may have split."""
    return text.removesuffix(re.split(r"\s", text)[-1])
