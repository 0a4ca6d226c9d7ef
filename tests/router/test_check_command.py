"""`router check`: what works in at most ten lines, and what does not in one."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router import cli
from router.models.errors import VerifierError
from router.models.fakes import FakeVerifier
from router.models.types import Chain, Scored
from tests.stand_ins import LlamaCpp, SGLang, StandIn, serving


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)


def run(*args: str) -> Result:
    done = CliRunner().invoke(cli.main, ["check", *args])
    assert "Traceback" not in done.stderr
    return done


def fails(*args: str) -> str:
    """The one line that says what does not work."""
    done = run(*args)
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    as_json = run(*args, "--json")
    assert as_json.exit_code == done.exit_code
    assert json.loads(as_json.stdout)["ok"] is False
    return done.stderr


@pytest.mark.parametrize("verifier", ["fake", "none"])
def test_ten_lines_say_what_works(verifier: str) -> None:
    done = run("--engine", "fake", "--verifier", verifier)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 10
    said = {line.split()[0]: line for line in lines}
    assert "fake on fake" in said["generator"]
    assert "16,384 tokens" in said["context"]
    assert ("format fake" if verifier == "fake" else "majority") in said["verifier"]
    assert {"seeds", "log-probs", "speed", "memory", "prompt"} < set(said)
    assert lines[-1] == "works"


def test_json_has_the_same_and_nothing_else() -> None:
    done = run("--engine", "fake", "--verifier", "fake", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert (found["engine"], found["context"], found["seeds"]) == ("fake", 16_384, True)
    assert found["verifier"]["format"] == "fake"
    assert 0 <= found["score"] <= 1
    assert found["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("stand_in", "how"),
    [
        (SGLang(), "the server's chat template; token ids"),
        (SGLang(system=False), "the system text in the user's turn; token ids"),
        (SGLang(old=True), "the server's chat template; text"),
        (LlamaCpp(), "the server's chat template; text"),
        (LlamaCpp(slots=1, strict=True), "the server's chat template; text"),
    ],
)
def test_each_server_is_understood(stand_in: StandIn, how: str) -> None:
    with serving(stand_in) as url:
        done = run("--endpoint", url, "--verifier", "fake")
    assert done.exit_code == 0
    assert how in done.stdout
    logprobs = "no" if getattr(stand_in, "old", False) else "yes"
    assert f"log-probs  {logprobs}\n" in done.stdout


def test_a_wrong_url_is_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        assert f"{url}/models failed" in fails("--endpoint", url, "--verifier", "none")
    assert "is not a URL" in fails("--endpoint", "localhost:8000", "--verifier", "none")


def test_a_server_of_something_else_is_one_line() -> None:
    class Shop(SGLang):
        def get(self, path: str) -> Any:
            return {"welcome": path}

    with serving(Shop()) as url:
        assert "the server has: none" in fails("--endpoint", url, "--verifier", "none")


def test_a_missing_tokenizer_or_verifier_is_one_line(tmp_path: Path) -> None:
    with serving(SGLang()) as url:
        server = ("--endpoint", url)
        missing = str(tmp_path / "nowhere")
        assert missing in fails(*server, "--verifier", "none", "--tokenizer", missing)
        assert missing in fails(*server, "--verifier", missing)


def test_a_dead_verifier_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(self: FakeVerifier, chain: Chain, known: int = 0) -> Scored:
        raise VerifierError("the PRM has died")

    monkeypatch.setattr(FakeVerifier, "score", dead)
    assert fails("--engine", "fake", "--verifier", "fake") == "error: the PRM has died\n"


@pytest.mark.parametrize("named", [(), ("--verifier", "auto")])
def test_a_verifiers_dead_server_is_one_line(named: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    message = fails("--engine", "fake", *named, "--verifier-endpoint", f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in message


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    before = set(threading.enumerate())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        said = fails("--endpoint", url, "--verifier", "none", "--deadline", "0.5")
        assert time.monotonic() - started < 5
    assert "within 0.5 seconds" in said
    assert not [one for one in set(threading.enumerate()) - before if one.name == "router"]
