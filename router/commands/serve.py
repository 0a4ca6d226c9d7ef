"""`router serve`: an OpenAI-compatible service, and a page that shows the search."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from router.commands.common import option, with_routing
from router.core import DEFAULT_BUDGET, Router
from router.models.errors import InputError
from router.models.extras import require

KEYS_VARIABLE = "ROUTER_API_KEYS"


@click.command()
@option("--host", default="127.0.0.1", help="Address to serve on; others need API keys.")
@option("--port", type=click.IntRange(0, 65535), default=8080, help="Port; 0 takes a free one.")
@option("--budget", "-n", type=int, default=DEFAULT_BUDGET, help="Generations where none is named.")
@option("--max-budget", type=int, default=256, help="Most generations of one request.")
@click.option(
    "--effort",
    "efforts",
    multiple=True,
    metavar="NAME=N",
    help="Budget of a client's `reasoning_effort`, as in low=4; may be given several times."
    "  [default: none=1, minimal=1, low=4, medium=16, high=64, xhigh=256, max=256]",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages from there call the service, as https://example.org, or * for all; may be"
    " given several times.",
)
@option(
    "--deadline",
    type=float,
    default=600.0,
    metavar="SECONDS",
    help="Time for each request, waiting included; what is found by then answers.",
)
@option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of API keys, one a line: `KEY` or `KEY MAX_BUDGET`. Or set ROUTER_API_KEYS,"
    " separated by commas.",
)
@option("--running", type=click.IntRange(min=1), default=64, help="Searches at once.")
@option(
    "--generations",
    type=click.IntRange(min=1),
    default=1024,
    help="Budgets of the searches at once, summed; a larger one runs alone.",
)
@option("--waiting", type=click.IntRange(min=0), default=256, help="Requests that may wait.")
@option(
    "--key-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    help="Most of these that one key may hold, where there are several.",
)
@option(
    "--key-requests",
    type=click.IntRange(min=1),
    default=1200,
    help="Requests of each key in a minute.",
)
@option(
    "--key-generations",
    type=click.IntRange(min=1),
    default=20_000,
    help="Budgets that each key may ask for in a minute, summed.",
)
@click.option(
    "--average-per-key",
    is_flag=True,
    help="Hold --average for each key by itself, not for all requests together.",
)
@option("--max-body", type=click.IntRange(min=1), default=1 << 20, help="Bytes of one request.")
@option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30.0,
    metavar="SECONDS",
    help="Time for running requests after SIGTERM.",
)
@option("--log-prompts", is_flag=True, help="Log problems and answers too.")
@with_routing
def serve(
    router: Router,
    host: str,
    port: int,
    budget: int,
    max_budget: int,
    efforts: tuple[str, ...],
    origins: tuple[str, ...],
    deadline: float,
    keys: Path | None,
    running: int,
    generations: int,
    waiting: int,
    key_share: float,
    key_requests: int,
    key_generations: int,
    average_per_key: bool,
    max_body: int,
    drain: float,
    log_prompts: bool,
) -> None:
    """Serve an OpenAI-compatible API and a page that shows the search.

    The API is at /v1, the page at /. Logs are JSON lines on stderr; /metrics is for Prometheus.

    Exit code: 0 or the signal's after a clean end, 1 when the models or the address cannot be
    had, 2 for bad input.
    """
    require("the service", "service", "fastapi", "httptools", "prometheus_client", "uvicorn")
    from router.service.keys import ApiKeys
    from router.service.logs import log_as_json
    from router.service.server import Server, bind
    from router.service.settings import Settings, efforts_of

    text = os.environ.get(KEYS_VARIABLE, "")
    if average_per_key and router.average is None:
        raise InputError("--average-per-key is for --average; give that too")
    if keys is not None and text:
        raise InputError(f"give keys either with --keys or in {KEYS_VARIABLE}, not both")
    parsed = ApiKeys.parse(text, KEYS_VARIABLE) if text else ApiKeys()
    settings = Settings(
        keys=ApiKeys.read(keys) if keys else parsed,
        budget=min(budget, max_budget),
        max_budget=max_budget,
        efforts=efforts_of(efforts),
        origins=origins,
        deadline=deadline,
        running=running,
        generations=generations,
        waiting=waiting,
        key_share=key_share,
        key_requests=key_requests,
        key_generations=key_generations,
        average_per_key=average_per_key,
        body=max_body,
        log_prompts=log_prompts,
    )
    log_as_json(log_prompts)
    with bind(host, port, settings) as bound:
        shown, number = bound.getsockname()[:2]
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}"
        logging.getLogger("router.service").info("listening on %s", url)
        Server(router, settings, drain).serve_on(bound)
