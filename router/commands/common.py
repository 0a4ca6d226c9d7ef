"""What several commands share: the options that choose models, and how a router is opened."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import click
from rich.console import Console

from router.bundle import shipped_bundle
from router.choosing import AUTO, Difficulty
from router.commands.models import NONE, Values, pairs
from router.core import Router
from router.models.errors import InputError
from router.models.prompts import PROMPTS, delimited
from router.models.runtime.engine_args import parse_engine_args
from router.models.types import MAX_TEMPERATURE, AskedSampling, Sampling
from router.models.weights.embedded import DEFAULT
from router.opening import Models
from router.pairs import Pair
from router.problem_files import STDIN, Problems, problems_or_text, source
from router.strategies.fleet import Member

Command = Callable[..., Any]

_DEFAULTS: Final = Sampling()
_FILES: Final = frozenset({".csv", ".json", ".jsonl", ".md", ".ndjson", ".tsv", ".txt"})


def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """A click option whose environment variable is the same for every command."""
    variable = "ROUTER_" + names[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


class Names(click.Choice[str]):
    """One of several names; a typing error gets the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = get_close_matches(str(value), [str(name) for name in self.choices], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            self.fail(f"{error.message}{hint}", param, ctx)


tolerance_option: Final = option(
    "--tolerance",
    type=float,
    default=0.0,
    help="Accuracy to give up for a cheaper search, where a bundle decides.",
)

_OPTIONS: Final = (
    option(
        "--model",
        "models",
        type=Values(),
        multiple=True,
        metavar="REF|NAME=REF",
        help="Directory or hub id of the generator. Several have names (docs/fleet.md): repeat it"
        " as NAME=REF; the first is the one that is asked by default.",
        show_default=DEFAULT.name,
    ),
    option(
        "--engine",
        default="auto",
        metavar="auto|vllm|transformers|openai|fake",
        help="What runs it; `fake` is a deterministic stand-in that only adds numbers up,"
        " to try the interface without a model.",
    ),
    option(
        "--endpoint",
        "endpoints",
        multiple=True,
        metavar="URL|NAME=URL",
        help="OpenAI-compatible server to use instead; repeat it to spread the load.",
    ),
    option("--endpoint-key", metavar="KEY", help="API key of the endpoints."),
    option(
        "--endpoint-seeds",
        is_flag=True,
        help="The endpoints may be sent seeds. vLLM's CPU build dies of one.",
    ),
    option(
        "--tokenizer",
        "tokenizers",
        type=Values(),
        multiple=True,
        metavar="REF|NAME=REF",
        help="Directory or hub id of the model's tokenizer, for endpoints that render no chat.",
        show_default="the server's own",
    ),
    option(
        "--prompt",
        type=Names(sorted(PROMPTS)),
        help="How problems are put to the model.",
        show_default="the model's own",
    ),
    option(
        "--chat-template-arg",
        "template_args",
        multiple=True,
        metavar="KEY=VALUE",
        help="Argument for the model's chat template, as enable_thinking=false; repeat it for"
        " more.",
    ),
    option(
        "--delimiter",
        metavar="TEXT",
        help="What ends a step of the model's solutions, as '\\n' for a model that writes a step a"
        " line.",
        show_default="a blank line, or the next `Step k`",
    ),
    option(
        "--verifier",
        "verifiers",
        type=Values(),
        multiple=True,
        default=(AUTO,),
        metavar="REF|NAME=REF",
        help="Directory or hub id of a process reward model; `none` for none, `auto` for the one"
        " that comes with `router` for the model, if there is one; with --verifier-endpoint, for"
        " what that serves.",
    ),
    option(
        "--verifier-format",
        metavar="FORMAT",
        help="How its input is written, for weights that do not tell.",
        show_default="the verifier's own",
    ),
    option(
        "--verifier-endpoint",
        "verifier_endpoints",
        multiple=True,
        metavar="URL|NAME=URL",
        help="`vllm serve` of the verifier to use instead; repeat it to spread the load.",
    ),
    option("--verifier-endpoint-key", metavar="KEY", help="API key of the verifier endpoints."),
    option(
        "--engine-arg",
        "engine_args",
        multiple=True,
        metavar="KEY=VALUE",
        help="Argument for the generator's vLLM engine, as tensor_parallel_size=2 or"
        " max_model_len=8192; repeat it for more.",
    ),
    option(
        "--verifier-arg",
        "verifier_args",
        multiple=True,
        metavar="KEY=VALUE",
        help="The same for the verifier's engine.",
    ),
    option(
        "--price",
        "prices",
        multiple=True,
        metavar="NAME=MONEY[/MONEY]",
        help="What a million tokens of that model cost; 0.1/0.4 where those of a prompt and those"
        " sampled differ. Several models are weighed by it.",
        show_default="by FLOPs",
    ),
    option(
        "--temperature",
        type=float,
        help=f"Sampling temperature, from 0 to {MAX_TEMPERATURE:g}.",
        show_default=f"the deciding bundle's, else {_DEFAULTS.temperature:g}",
    ),
    option(
        "--top-p",
        type=float,
        help="Nucleus of the sampling.",
        show_default=f"the deciding bundle's, else {_DEFAULTS.top_p:g}",
    ),
    option(
        "--max-tokens",
        type=int,
        help="Limit on the tokens of one solution.",
        show_default=f"the deciding bundle's, else {DEFAULT.max_tokens} for embedded models and"
        f" {_DEFAULTS.max_tokens} for others",
    ),
    option(
        "--stop",
        multiple=True,
        metavar="TEXT",
        help="Text that ends a solution, which it is cut before; repeat it for more. Base models"
        " get some of their own.",
    ),
)


def with_router(command: Command) -> Command:
    """Add the options that choose models; the command gets an unopened `router`."""

    @functools.wraps(command)
    def run(
        *args: Any,
        models: tuple[str, ...],
        engine: str,
        endpoints: tuple[str, ...],
        endpoint_key: str | None,
        endpoint_seeds: bool,
        tokenizers: tuple[str, ...],
        prompt: str | None,
        template_args: tuple[str, ...],
        delimiter: str | None,
        verifiers: tuple[str, ...],
        verifier_format: str | None,
        verifier_endpoints: tuple[str, ...],
        verifier_endpoint_key: str | None,
        engine_args: tuple[str, ...],
        verifier_args: tuple[str, ...],
        prices: tuple[str, ...],
        temperature: float | None,
        top_p: float | None,
        max_tokens: int | None,
        stop: tuple[str, ...],
        **others: Any,
    ) -> Any:
        common = Pair(
            engine=engine,
            endpoint_key=endpoint_key,
            endpoint_seeds=endpoint_seeds,
            prompt=prompt if delimiter is None else delimited(prompt, _unescaped(delimiter)),
            chat_template_kwargs=parse_engine_args(
                "--chat-template-arg", template_args, "enable_thinking=false"
            ),
            verifier_format=verifier_format,
            verifier_endpoint_key=verifier_endpoint_key,
            engine_args=parse_engine_args("--engine-arg", engine_args),
            verifier_args=parse_engine_args("--verifier-arg", verifier_args),
        )
        router = Router(
            models=pairs(
                common,
                models=models,
                endpoints=endpoints,
                tokenizers=tokenizers,
                verifiers=verifiers,
                verifier_endpoints=verifier_endpoints,
                prices=prices,
            ),
            sampling=AskedSampling(temperature, top_p, max_tokens, stop or None),
            bundle=None,
        )
        return command(*args, router=router, **others)

    decorated: Command = run
    for decorate in reversed(_OPTIONS):
        decorated = decorate(decorated)
    return decorated


def _unescaped(text: str) -> str:
    r"""A text in which `\n`, `\r` and `\t` stand for what no shell writes easily."""
    for written, meant in ((r"\n", "\n"), (r"\r", "\r"), (r"\t", "\t")):
        text = text.replace(written, meant)
    return text


_ROUTING: Final = (
    option(
        "--bundle",
        default=AUTO,
        metavar="auto|none|DIR",
        help="Fitted bundle that decides the strategy; `auto` is the one that comes with `router`"
        " for the model and its verifier, if there is one.",
    ),
    option(
        "--difficulty",
        type=Names(get_args(Difficulty)),
        default="text",
        help="What the bundle judges difficulty by: the problem's text; a prefill, which is the"
        " state of the model once it has read the problem; or a pilot, which is the first quarter"
        " of the samples, scored; they count, and are used.",
    ),
    option(
        "--average",
        type=float,
        metavar="B",
        help="Generations that problems cost on average, where a bundle decides; --budget is then"
        " what one may cost.",
    ),
    option(
        "--target-accuracy",
        type=float,
        metavar="A",
        help="Instead: as few generations as promise this accuracy, on average.",
    ),
)


def with_routing(command: Command) -> Command:
    """As `with_router`, with the options that choose what decides the strategy."""

    @functools.wraps(command)
    def run(
        *args: Any,
        router: Router,
        bundle: str,
        difficulty: Difficulty,
        average: float | None,
        target_accuracy: float | None,
        **others: Any,
    ) -> Any:
        router.bundle = None if bundle == NONE else bundle
        router.difficulty = difficulty
        router.average, router.target_accuracy = average, target_accuracy
        return command(*args, router=router, **others)

    decorated = with_router(run)
    for decorate in reversed(_ROUTING):
        decorated = decorate(decorated)
    return decorated


def bundle_to_show(directory: Path | None) -> Path:
    """A bundle that was named, else the one that comes with `router` for its default model.

    Raises:
        InputError: none comes with it.
    """
    found = directory or shipped_bundle(DEFAULT.name)
    if found is None:
        raise InputError(
            f"no bundle comes with this version of `router` for {DEFAULT.name}; name the directory"
            " of one that `router fit` has made"
        )
    return found


def asked(problem: str | None, file: Path | None, task: str = "maths") -> Problems | str:
    """What PROBLEM, --file or stdin hold: many problems, or the text of one.

    Raises:
        UsageError, InputError: there is nothing, it cannot be read, or PROBLEM names a file.
    """
    if problem is not None and file is not None:
        raise click.UsageError("give either PROBLEM or --file, not both")
    if problem is not None and problem != "-":
        if len(problem.split()) == 1 and Path(problem).suffix.lower() in _FILES:
            raise InputError(f"{problem!r} names a file; write --file {problem}")
        return problem
    if file is None and (sys.stdin is None or (problem is None and sys.stdin.isatty())):
        raise click.UsageError("give a PROBLEM, --file, or a text on stdin")
    return problems_or_text(*source(file or STDIN), task)


@contextmanager
def opened(router: Router) -> Iterator[Router]:
    """Open the router's models, say on stderr which they are, and close them at the end."""
    console = Console(stderr=True, highlight=False)
    try:
        with console.status("opening the models …"):
            models = router.open()
        console.print(_names(models), style="dim", markup=False, soft_wrap=True)
        yield router
    finally:
        router.close()


def _names(models: Models) -> str:
    return "\n".join(map(_name, models.members))


def _name(member: Member) -> str:
    generator = member.generator.info
    judge = f"verifier {member.verifier.info.name}" if member.verifier else "no verifier"
    text = f"{generator.model} on {generator.engine}, prompt {generator.prompt}, {judge}"
    if not member.name:
        return text
    return f"{member.name}: {text}, {member.cost:.4g} a sample"
