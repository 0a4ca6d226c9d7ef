"""What a model thinks before it answers, kept apart from the answer.

Models mark their thoughts in different ways; `MARKERS` lists them. A marker that opens may be
missing, because many chat templates write it into the prompt, and one that closes, because a limit
of tokens came first.
"""

from __future__ import annotations

import re

MARKERS: tuple[tuple[str, str], ...] = (
    (r"<think>", r"</think>"),  # DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax, Nemotron, Phi, Hunyuan
    (r"<thinking>", r"</thinking>"),
    (r"<thoughts?>", r"</thoughts?>"),  # EXAONE Deep, Marco-o1
    (r"<reasoning>", r"</reasoning>"),  # models trained by common GRPO recipes
    (r"<reflection>", r"</reflection>"),
    (r"<seed:think>", r"</seed:think>"),  # Seed-OSS
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1, OpenThinker
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|channel>(?:thought\b)?", r"<channel\|>"),  # Gemma 4
    (r"<\|im_start\|>think\b", r"<\|im_start\|>answer\b"),  # s1
    (  # gpt-oss
        r"<\|channel\|>(?:analysis|commentary)[^<\n]{0,80}<\|message\|>",
        r"<\|end\|>|(?=<\|start\|>)|(?=<\|channel\|>final)",
    ),
    (r"\Aanalysis(?=[^\s:,.])", r"assistantfinal"),  # gpt-oss without its special tokens
    (r"Here is my thought process:", r"Here is my response:"),  # Granite
    (r"\AHere are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),  # Apriel
)
"""Regular expressions, in any case: what opens a thought, and what closes it."""

_MARKER = re.compile(
    r"(?=[<\[◁]|here (?:is|are) my|assistantf|analysis)(?:"  # most characters begin none
    + "|".join(
        f"(?P<open_{at}>{opens})|(?P<close_{at}>{closes})"
        for at, (opens, closes) in enumerate(MARKERS)
    )
    + ")",
    re.IGNORECASE,
)
_FRAME = re.compile(
    r"<\|(?:start\|>assistant|channel\|>final[^<\n]{0,80}|message\||return\||end\|)>?"
    r"|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|\[END FINAL RESPONSE\]",
)
_OPENED_BY_A_TEMPLATE = re.compile(r"</|◁/|\[/|<\|(?:end_of_thought|END_THINKING)|<channel\|>")


def thoughts(text: str) -> tuple[str | None, str]:
    """The thoughts in what a model wrote, and the rest of it; None if it shows no thought.

    Of a text in which a thought is only closed, all before that is one; in which it is only
    opened, all after that. Takes time linear in the text.
    """
    apart: list[str] = []
    rest: list[str] = []
    start, inside = 0, -1  # where the piece begins, and the marker that it waits for
    for match in _MARKER.finditer(text):
        assert match.lastgroup is not None
        kind, _, number = match.lastgroup.partition("_")
        closes, at = kind == "close", int(number)
        if inside < 0 and not closes:
            rest.append(text[start : match.start()])
            inside, start = at, match.end()
        elif closes and (inside == at or (not apart and not rest and _may_be_first(match))):
            apart.append(text[start : match.start()])
            inside, start = -1, match.end()
    (rest if inside < 0 else apart).append(text[start:])
    if not apart:
        return None, text
    said = _FRAME.sub("", "\n".join(rest)).strip()
    return "\n\n".join(thought.strip() for thought in apart).strip(), said


def opens_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends inside a thought, which its template has opened."""
    *_, last = [None, *_MARKER.finditer(prompt)]
    return (
        last is not None
        and (last.lastgroup or "").startswith("open")
        and not prompt[last.end() :].strip()
    )


def is_marker(token: str) -> bool:
    """Whether a token of this text opens or closes a thought."""
    return _MARKER.fullmatch(token) is not None


def _may_be_first(match: re.Match[str]) -> bool:
    """Whether a text may begin inside the thought that this closes."""
    return _OPENED_BY_A_TEMPLATE.match(match.group()) is not None
