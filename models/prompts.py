r"""Prompts as data: what is said to a model before it solves a problem, keyed by an id.

`qwen-math` is the prompt of Qwen2.5-Math (its model card); `llama-eval` asks, in our own words,
for the layout of the reference work's prompt (search-and-learn, `src/sal/config.py`): numbered
`## Step k:` headings and a closing sentence with the answer in `\boxed{}`. Adding a prompt is
adding an entry to `PROMPTS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import groupby
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from router.models.errors import InputError
from router.models.types import Message, Problem

TemplateArgs = Mapping[str, Any]
"""Arguments for a model's chat template by name, as `{"enable_thinking": False}`."""

NO_ARGS: Final[TemplateArgs] = {}


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a problem is put to a model, and what ends one step of its answer.

    system: system text; None leaves it to the model's chat template.
    examples: worked (question, solution) pairs, shown as earlier turns.
    template: the user's turn; `{problem}` stands for the problem's text, and what it asks for.
    delimiter: the text that ends a step.
    template_args: what the model's chat template is told besides.

    Raises:
        InputError: a template without `{problem}`, or an empty delimiter.
    """

    id: str
    system: str | None = None
    examples: tuple[tuple[str, str], ...] = ()
    template: str = "{problem}"
    delimiter: str = "\n\n"
    # Not in `repr`, of which stored rollouts hold a digest; the id says it.
    template_args: TemplateArgs = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if "{problem}" not in self.template:
            raise InputError(f"prompt {self.id!r}: template {self.template!r} has no '{{problem}}'")
        if not self.delimiter:
            raise InputError(f"prompt {self.id!r}: the step delimiter is empty")

    def messages(self, problem: Problem) -> tuple[Message, ...]:
        """The chat that asks for a solution: system, examples, history, question.

        System turns of the problem's history replace the prompt's own system text.
        """
        own = [self.system] if self.system else []
        system = [turn.content for turn in problem.history if turn.role == "system"] or own
        turns = [Message("system", "\n\n".join(system))] if system else []
        for question, solution in self.examples:
            turns += [Message("user", self._ask(question)), Message("assistant", solution)]
        turns += [turn for turn in problem.history if turn.role != "system"]
        asked = f"{problem.text}\n\n{problem.ask}" if problem.ask else problem.text
        turns.append(Message("user", self._ask(asked)))
        return tuple(turns)

    def with_args(self, template_args: TemplateArgs) -> Prompt:
        """The same prompt with arguments for the chat template, which its id names too.

        So nothing that was fitted or trained with others is taken to fit.

        Raises:
            InputError: an argument that is not the template's.
        """
        if not template_args:
            return self
        for name in template_args:
            if name in _NOT_THE_TEMPLATES:
                raise InputError(f"chat template argument {name!r} is set by `router` itself")
        args = {**self.template_args, **template_args}
        said = urlencode({name: json.dumps(value) for name, value in sorted(args.items())})
        return replace(self, id=f"{self.id.partition('?')[0]}?{said}", template_args=args)

    def _ask(self, text: str) -> str:
        # Not str.format: templates hold LaTeX braces.
        return self.template.replace("{problem}", text)


_NOT_THE_TEMPLATES = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "messages",
        "padding",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "truncation",
    }
)
"""What is said to the function that renders, and not to the template."""


def forms(turns: Sequence[Message]) -> tuple[tuple[Message, ...], ...]:
    """The same chat in three forms, for ever stricter templates; some may be equal.

    As it is; with neighbours of one role in one turn ("roles must alternate", Mistral); and with
    the system text in the first user turn (Gemma).
    """
    merged = _merged(turns)
    if not merged or merged[0].role != "system":
        return tuple(turns), merged, merged
    asked = _merged([Message("user", merged[0].content), *merged[1:]])
    return tuple(turns), merged, asked


def _merged(turns: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in group))
        for role, group in groupby(turns, key=lambda turn: turn.role)
    )


_STEP_BY_STEP = r"Please reason step by step, and put your final answer within \boxed{}."

_LLAMA_EVAL = r"""Solve the math problem below. Be clear and waste no words.

- If it takes one or two steps, answer it directly with a short justification.

- If it takes three steps or more, lay the solution out like this:

## Step 1: [What this step does]
[The reasoning and the calculation]

## Step 2: [What this step does]
[The reasoning and the calculation]

...

In both cases, end with this sentence:

Therefore, the final answer is: $\boxed{answer}$. I hope it is correct.

Replace [answer] by the number or the expression that solves the problem, and nothing else."""

_WORKED_EXAMPLES = (
    (
        "A baker makes 4 trays of 18 rolls. She sells 50 rolls at 2 dollars each and gives the "
        "rest away. How many rolls does she give away?",
        "The baker makes 4 trays of 18 rolls, which is 4 * 18 = 72 rolls.\n\n"
        "She sells 50 of them, so 72 - 50 = 22 rolls are left to give away.\n\n"
        r"The final answer is \boxed{22}.",
    ),
    (
        "A train covers 150 km in 2 hours, then 90 km in 1 hour. What is its average speed over "
        "the whole trip, in km per hour?",
        "The whole distance is 150 + 90 = 240 km.\n\n"
        "The whole time is 2 + 1 = 3 hours.\n\n"
        "The average speed is 240 / 3 = 80 km per hour.\n\n"
        r"The final answer is \boxed{80}.",
    ),
    (
        "A coat costs 120 dollars. Its price is cut by 25%, and then 10 dollars more are taken "
        "off. What does it cost now, in dollars?",
        "A cut of 25% takes 0.25 * 120 = 30 dollars off, which leaves 120 - 30 = 90 dollars.\n\n"
        "Taking 10 dollars more off leaves 90 - 10 = 80 dollars.\n\n"
        r"The final answer is \boxed{80}.",
    ),
)

PROMPTS: Mapping[str, Prompt] = {
    prompt.id: prompt
    for prompt in (
        Prompt("qwen-math", system=_STEP_BY_STEP),
        Prompt("llama-eval", system=_LLAMA_EVAL),
        Prompt("instruction-after", template="{problem}\n\n" + _STEP_BY_STEP),
        Prompt("worked-examples", system=_STEP_BY_STEP, examples=_WORKED_EXAMPLES),
        Prompt("plain"),
    )
}

_FAMILIES: tuple[tuple[str, str], ...] = (
    ("llama-3", "llama-eval"),
    ("meta-llama-3", "llama-eval"),
)
"""(start of the model's own name in lower case, prompt id); the first that matches counts."""

_FALLBACK = "qwen-math"


def delimited(prompt_id: str | None, delimiter: str) -> str:
    """The id of a prompt (None: of the model's own) whose steps end with another delimiter.

    The id says it, so nothing that was fitted or trained with other steps is taken to fit.

    Raises:
        InputError: the delimiter is empty.
    """
    if not delimiter:
        raise InputError("the step delimiter is empty")
    return f"{prompt_id or ''}#{quote(delimiter, safe='')}"


def get_prompt(prompt_id: str) -> Prompt:
    """The registered prompt of that id, with the template's arguments and delimiter that it names.

    Raises:
        InputError: no such id; names the nearest one.
    """
    name, _, delimiter = prompt_id.partition("#")
    if delimiter:
        return replace(get_prompt(name), id=prompt_id, delimiter=unquote(delimiter))
    name, _, said = prompt_id.partition("?")
    try:
        prompt = PROMPTS[name]
    except KeyError:
        near = get_close_matches(name, PROMPTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PROMPTS)}"
        raise InputError(f"no prompt {name!r}; {hint}") from None
    try:
        return prompt.with_args({key: json.loads(value) for key, value in parse_qsl(said)})
    except ValueError as error:
        raise InputError(f"prompt {prompt_id!r} names no arguments: {error}") from error


def default_prompt(model_name: str) -> Prompt:
    """The prompt for a model (hub id, directory or short name) when the user names none."""
    name = model_name.rstrip("/").rsplit("/", 1)[-1].lower()
    for family, prompt_id in _FAMILIES:
        if name.startswith(family):
            return PROMPTS[prompt_id]
    return PROMPTS[_FALLBACK]
