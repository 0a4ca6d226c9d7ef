"""Real services for real clients, and the table of what came of it, `docs/clients.md`.

The clients are tried in an environment of their own, made by `make clients`; without that, those
that are installed beside the tests. CLIENTS_TABLE names the file that is written.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.service.test_serve_command import process

HERE = Path(__file__).parent
TABLE = os.environ.get("CLIENTS_TABLE")

HEAD = """# Clients

What was tried on `router serve`, by the clients themselves. `make clients` tries it again and
writes this page; the scripts are in `tests/service/clients/`. The engine is the fake one, which
adds up a problem's numbers, but for what says that it ran on the embedded model.

| client | version | tried | result |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Try:
    """One thing that a client was asked to do. error: empty where it went well."""

    client: str
    version: str
    tried: str
    error: str


class Tries(list[Try]):
    """Everything that was tried."""

    def of(self, client: str, lines: str) -> None:
        """Read what a script printed, and make sure that all went well."""
        told = [json.loads(line) for line in lines.splitlines() if line.startswith('{"version"')]
        found = [Try(client, **one) for one in told]
        self.extend(found)
        assert found
        assert [one for one in found if one.error] == []

    def table(self) -> str:
        """One row a client."""
        rows = []
        for name in dict.fromkeys(one.client for one in self):
            own = [one for one in self if one.client == name]
            wrong = [f"{one.tried}: {one.error}" for one in own if one.error]
            tried = "; ".join(one.tried for one in own)
            result = "; ".join(wrong) or "all works"
            rows.append(f"| {name} | {own[0].version} | {tried} | {result} |\n")
        return HEAD + "".join(rows)


@pytest.fixture(scope="session")
def tries() -> Iterator[Tries]:
    """Where tests put what they tried."""
    found = Tries()
    yield found
    if TABLE is not None:
        Path(TABLE).write_text(found.table(), "utf-8")


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server of another origin, with one empty page."""
    root = tmp_path_factory.mktemp("origin")
    (root / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def url(origin: str) -> Iterator[str]:
    """Where `router serve` serves the fake engine."""
    options = ("--engine", "fake", "--verifier", "fake", "--port", "0", "--allow-origin", origin)
    with process("-m", "cli", "serve", *options) as (_, url):
        yield url


def python(module: str) -> str:
    """The Python that has a client."""
    if TABLE is not None:
        return str(Path(sys.prefix) / "clients" / "bin" / "python")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here: `make clients` tries it")
    return sys.executable


def ran(*command: str, folder: str = "scripts", **variables: str) -> str:
    """What a command prints, in a folder of these tests.

    Raises:
        AssertionError: it fails.
    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=HERE / folder,
        env={**os.environ, **variables},
    )
    sys.stderr.write(done.stderr)  # pytest shows it where the test fails
    assert done.returncode == 0, done.stdout
    return done.stdout
