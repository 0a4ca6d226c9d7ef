"""`router solve` through the command line, on fakes: good input, and every kind of bad one."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router import cli
from router.models.errors import InputError, VerifierError
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, FinishReason, Sampling, Scored
from router.pairs import Pair
from router.words import counted
from tests.problem_file import problem_file

QUESTION = "What is 12 + 35 + 7?"
FAKE = ("--engine", "fake", "--seed", "0")


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    done = CliRunner().invoke(cli.main, ["solve", *args], input=stdin)
    assert "Traceback" not in done.stderr
    return done


def refused(*args: str, stdin: str | bytes | None = None) -> str:
    """Run what must be refused as bad input; its message."""
    done = run(*args, stdin=stdin)
    assert done.exit_code == 2
    assert done.stdout == ""
    return done.stderr


def use(monkeypatch: pytest.MonkeyPatch, generator: FakeGenerator) -> None:
    async def load(*args: Any, **options: Any) -> FakeGenerator:
        return generator

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    monkeypatch.setenv("ROUTER_VERIFIER", "none")


def jsonl(path: Path, *records: dict[str, Any] | str) -> Path:
    lines = (r if isinstance(r, str) else json.dumps(r) for r in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# -- one problem ------------------------------------------------------------------------------


def test_json_prints_the_solution_and_nothing_else() -> None:
    done = run(QUESTION, *FAKE, "--budget", "16", "--json")
    assert done.exit_code == 0
    solution = json.loads(done.stdout)
    assert solution["answer"] == "54"
    assert solution["usage"]["generations"] == 16
    assert solution["decision"]["strategy"] == "best_of_n(n=16, select=majority)"
    assert "fake on fake" in done.stderr


def test_the_task_reads_the_answer(tmp_path: Path) -> None:
    done = run(QUESTION, *FAKE, "--budget", "4", "--json", "--task", "text")
    assert json.loads(done.stdout)["answer"] == "54"
    done = run(QUESTION, *FAKE, "--budget", "1", "--json", "--task", "open")
    solution = json.loads(done.stdout)
    assert solution["answer"] == solution["text"].strip()
    assert "boxed" in solution["answer"]
    file = jsonl(tmp_path / "p.jsonl", {"problem": QUESTION}, {"problem": "2+3", "task": "maths"})
    done = run("--file", str(file), *FAKE, "--budget", "1", "--task", "open")
    answers = {s["problem_id"]: s["answer"] for s in map(json.loads, done.stdout.splitlines())}
    assert "boxed" in answers["1"]
    assert answers["2"] == "5"


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    hint = "error: no task 'math'; did you mean 'maths'?\n"
    assert refused(QUESTION, *FAKE, "--task", "math").lower() == hint
    file = jsonl(tmp_path / "p.jsonl", {"problem": QUESTION})
    assert refused("--file", str(file), *FAKE, "--task", "math").lower() == hint


def test_people_see_answer_decision_spend_votes_and_end() -> None:
    done = run(QUESTION, *FAKE, "--budget", "16")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line and line[0].isalpha()}
    assert rows["Answer"].split()[1] == "54"
    assert "best_of_n(n=16, select=majority)" in rows["Decision"]
    assert "no bundle is fitted" in done.stdout
    assert "16 of 16 generations" in rows["Spent"]
    assert "sampled tokens" in done.stdout
    assert "completed" in rows["Ended"]
    assert "█" in rows["Votes"]


def test_what_the_engine_does_not_report_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vague(FakeGenerator):
        async def sample(self, path: Chain, n: int, sampling: Sampling) -> Any:
            from dataclasses import replace

            sampled = await super().sample(path, n, sampling)
            return replace(sampled, prompt_tokens=None, cached_tokens=None)

    use(monkeypatch, Vague())
    assert "prompt tokens not reported" in run(QUESTION).stdout
    assert json.loads(run(QUESTION, "--json").stdout)["usage"]["prompt_tokens"] is None


def test_text_of_a_model_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def hostile(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return "[bold]so\x1b[2J[/nothing] the answer is \\boxed{[1, 2]}", "stop"

    use(monkeypatch, FakeGenerator(hostile))
    done = run(QUESTION, "--budget", "2")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "[bold]so" in done.stdout
    assert "[1, 2]" in done.stdout


@pytest.mark.parametrize("how", ["file", "stdin", "dash"])
def test_problem_from_file_or_stdin(how: str, tmp_path: Path) -> None:
    file = tmp_path / "problem.txt"
    file.write_text(QUESTION)
    args = {"file": ["--file", str(file)], "stdin": [], "dash": ["-"]}[how]
    done = run(*args, *FAKE, "--json", stdin=None if how == "file" else QUESTION)
    assert json.loads(done.stdout)["answer"] == "54"


def test_environment_sets_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_ENGINE", "fake")
    monkeypatch.setenv("ROUTER_BUDGET", "3")
    assert json.loads(run(QUESTION, "--json").stdout)["usage"]["generations"] == 3


def test_limits_end_the_search_and_are_named() -> None:
    done = run(QUESTION, *FAKE, "--budget", "64", "--token-cap", "300", "--json")
    solution = json.loads(done.stdout)
    assert solution["ended"] == "tokens"
    assert solution["usage"]["sampled_tokens"] <= 300


@pytest.mark.parametrize("strategy", ["best_of_n", "beam_search", "dvts", "lookahead"])
def test_strategies_with_a_verifier(strategy: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    done = run(
        *(QUESTION, *FAKE, "--verifier", "fake", "--strategy", strategy),
        *("--budget", "8", "--json", "--trace", str(trace)),
    )
    solution = json.loads(done.stdout)
    assert solution["answer"] == "54"
    assert solution["votes"][0]["weight"] > 0
    (tree,) = map(json.loads, trace.read_text().splitlines())
    assert tree["strategy"] == solution["decision"]["strategy"]
    assert {node["parent"] for node in tree["nodes"][1:]} <= {node["id"] for node in tree["nodes"]}


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--budget", "0"], "budget must be at least 1, not 0"),
        (["--budget", "-3"], "budget must be at least 1, not -3"),
        (["--budget", "2.5"], "'2.5' is not a valid integer"),
        (["--budget", "many"], "'many' is not a valid integer"),
        (["--budget", "99999999999999999999"], "over the limit of 65536"),
        (["--token-cap", "0"], "token cap must be at least 1"),
        (["--deadline", "0"], "deadline must be a positive number"),
        (["--deadline", "nan"], "deadline must be a positive number"),
        (["--temperature", "-1"], "temperature must lie between 0 and 2, not -1.0"),
        (["--max-tokens", "0"], "max_tokens must be at least 1, not 0"),
        (["--strategy", "baem_search"], "did you mean 'beam_search'?"),
        (["--strategy", "best_of_n(selct=best)"], "did you mean 'select'?"),
        (["--strategy", "best_of_n(select=all)"], "select must be one of majority, best, weighted"),
        (["--strategy", "best_of_n(n=4"], "cannot read strategy"),
        (["--strategy", "__import__('os').abort()"], "cannot read strategy"),
        (["--strategy", "beam_search"], "needs a verifier and there is none"),
        (["--strategy", "best_of_n(n=17, select=majority)"], "but the budget is 16"),
        (["--engine", "vlm"], "did you mean 'vllm'?"),
        (["--engine", "openai"], "needs at least one endpoint"),
        (["--prompt", "qwen"], "'qwen' is not one of"),
        (["--file", "x.txt"], "either PROBLEM or --file"),
        (["--out", "x.jsonl"], "for files of many problems"),
        (["--resume"], "--resume needs --out"),
    ],
)
def test_bad_options_are_refused(args: list[str], message: str) -> None:
    engine = () if "--engine" in args else FAKE
    assert message in refused(QUESTION, *engine, *args)


def test_bad_problems_are_refused(tmp_path: Path) -> None:
    assert "the problem is empty" in refused("", *FAKE)
    assert "the problem is empty" in refused(*FAKE, stdin=" \n")
    assert "write --file problems.jsonl" in refused("problems.jsonl", *FAKE)
    assert "over the context of 16384" in refused("1 + 1 " * 10_000, *FAKE)
    assert "No such file" in refused("--file", str(tmp_path / "nowhere.txt"), *FAKE)
    assert "Is a directory" in refused("--file", str(tmp_path), *FAKE)
    assert "stdin is not UTF-8 text" in refused(*FAKE, stdin=b"2 + 2 \xff")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Größe?".encode("latin-1"))
    assert "latin.txt is not UTF-8 text" in refused("--file", str(latin), *FAKE)


def test_path_without_a_model_is_refused(tmp_path: Path) -> None:
    done = run(QUESTION, "--engine", "transformers", "--model", str(tmp_path))
    assert done.exit_code in (1, 2)
    assert done.stderr.count("\n") == 1
    assert str(tmp_path) in done.stderr


def test_endpoint_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = run(QUESTION, "--endpoint", url)
    assert done.exit_code == 1
    assert url in done.stderr
    assert done.stdout == ""


class BadServer(BaseHTTPRequestHandler):
    """Serves one model; every completion is the same wrong reply, or none at all."""

    status, reply, silent = 200, b"", False

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": "m"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._answer(200, b'{"tokens": [1, 2, 3]}')
        elif "n" not in body or body.get("max_tokens") == 1:
            self._answer(200, json.dumps(VLLM_REPLY).encode())
        elif self.silent:
            time.sleep(3)
        else:
            self._answer(self.status, self.reply)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


VLLM_REPLY = {
    "choices": [{"index": 0, "text": "a", "finish_reason": "length", "token_ids": [7]}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


@pytest.mark.parametrize(
    ("status", "reply", "silent", "message"),
    [
        (500, b"boom", False, "{url}/v1/completions answered 500: boom"),
        (429, b"slow down", False, "{url}/v1/completions answered 429: slow down"),
        (200, b"{not json", False, "{url}/v1/completions"),
        (200, b'{"choices": []}', False, "the server answered no choices"),
        (200, b"", True, "{url}/v1/completions failed: ReadTimeout"),
    ],
)
def test_endpoint_that_misbehaves_is_named_and_answers_nothing(
    monkeypatch: pytest.MonkeyPatch, status: int, reply: bytes, silent: bool, message: str
) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)
    monkeypatch.setattr("router.models.generators.endpoints.TIMEOUT", 0.5 if silent else 60)
    handler = type("Handler", (BadServer,), {"status": status, "reply": reply, "silent": silent})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = run(QUESTION, "--endpoint", url, "--budget", "2")
        server.shutdown()
    assert done.exit_code == 1
    assert message.format(url=url) in done.stderr
    assert done.stdout == ""


def test_no_readable_answer_fails_and_invents_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return "I cannot tell.", "stop"

    use(monkeypatch, FakeGenerator(silent))
    done = run(QUESTION, "--budget", "4", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["answer"] is None
    assert "no answer in 4 solutions" in done.stderr
    people = run(QUESTION, "--budget", "4")
    assert people.exit_code == 1
    assert "none: no candidate states one" in people.stdout


def test_generator_that_fails_is_an_error_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeGenerator(fail_after=0))
    done = run(QUESTION, "--json")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "error: fake generator fails" in done.stderr


def test_verifier_that_returns_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def score(self: FakeVerifier, path: Chain, known: int = 0) -> Scored:
        return Scored((float("nan"),) * (len(path.steps) - known), 1)

    monkeypatch.setattr(FakeVerifier, "score", score)
    done = run(QUESTION, *FAKE, "--verifier", "fake", "--strategy", "beam_search")
    assert done.exit_code == VerifierError.exit_code
    assert done.stdout == ""
    assert "nan, which is not a probability" in done.stderr


def test_seed_on_an_engine_without_seeds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeGenerator(seeds=False))
    done = run(QUESTION, "--seed", "3", "--json")
    assert done.exit_code == 0
    assert "takes no seed" in done.stderr
    assert "takes no seed" in json.loads(done.stdout)["notes"][0]


# -- many problems ----------------------------------------------------------------------------


def test_many_problems_to_stdout_with_accuracy(tmp_path: Path) -> None:
    file = problem_file(tmp_path / "p.jsonl", fake_problems(12))
    done = run("--file", str(file), *FAKE, "--budget", "8")
    assert done.exit_code == 0
    solutions = [json.loads(line) for line in done.stdout.splitlines()]
    assert {s["problem_id"] for s in solutions} == {p.id for p in fake_problems(12)}
    right = sum(s["correct"] for s in solutions)
    assert "12 problems solved" in done.stderr
    assert f"({right} of 12; 95 % interval" in done.stderr
    assert "spent 96 generations" in done.stderr


def test_broken_line_is_named_and_the_others_run(tmp_path: Path) -> None:
    good = [{"id": str(i), "problem": QUESTION} for i in range(3)]
    file = jsonl(tmp_path / "p.jsonl", good[0], '{"id": "broken', good[1], good[2])
    done = run("--file", str(file), *FAKE, "--budget", "2")
    assert done.exit_code == 1
    assert "p.jsonl, line 2: it is not JSON" in done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_failing_problem_is_named_and_the_others_run(tmp_path: Path) -> None:
    long = {"id": "long", "problem": "1 + 1 " * 10_000}
    file = jsonl(tmp_path / "p.jsonl", {"id": "a", "problem": QUESTION}, long)
    done = run("--file", str(file), *FAKE, "--budget", "2")
    assert done.exit_code == 1
    assert "problem long" in done.stderr
    assert "1 failed" in done.stderr
    assert [json.loads(line)["problem_id"] for line in done.stdout.splitlines()] == ["a"]


def test_many_problems_from_stdin() -> None:
    data = f'{{"id": "a", "problem": "{QUESTION}", "answer": 54}}\nno JSON\n'
    for given in ((), ("-",), ("--file", "-")):
        done = run(*given, *FAKE, "--budget", "8", stdin=data)
        assert done.exit_code == 1
        assert "error: stdin, line 2: it is not JSON" in done.stderr
        assert "1 problem solved, 1 line with no problem" in done.stderr
        assert [json.loads(line)["problem_id"] for line in done.stdout.splitlines()] == ["a"]


def test_out_is_never_overwritten_and_resume_goes_on(tmp_path: Path) -> None:
    file, out = problem_file(tmp_path / "p.jsonl", fake_problems(6)), tmp_path / "out.jsonl"
    args = ("--file", str(file), *FAKE, "--budget", "2", "--out", str(out))
    assert run(*args).exit_code == 0
    complete = sorted(out.read_text().splitlines())
    assert "exists; add --resume" in refused(*args)
    # As if killed while it wrote the fourth line.
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:50])
    done = run(*args, "--resume")
    assert done.exit_code == 0
    assert "3 of 6 problems solved already" in done.stderr
    assert "6 problems solved" in done.stderr
    assert "of 6; 95 % interval" in done.stderr

    def comparable(line: str) -> dict[str, Any]:
        record = json.loads(line)
        del record["usage"]["seconds"]
        return record

    assert list(map(comparable, sorted(out.read_text().splitlines()))) == list(
        map(comparable, complete)
    )
    before = out.read_bytes()
    assert run(*args, "--resume").exit_code == 0
    assert out.read_bytes() == before


def test_half_a_character_is_named_and_the_others_run(tmp_path: Path) -> None:
    bad = r'{"id": "b", "problem": "What is 1 + 1? \ud800"}'
    file = jsonl(tmp_path / "p.jsonl", {"id": "a", "problem": QUESTION}, bad)
    done = run("--file", str(file), *FAKE, "--budget", "2")
    assert done.exit_code == 1
    assert "line 2: field 'problem' holds half a character" in done.stderr
    assert [json.loads(line)["problem_id"] for line in done.stdout.splitlines()] == ["a"]


def test_fault_in_the_code_ends_its_problem_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(FakeGenerator):
        async def sample(self, path: Chain, n: int, sampling: Sampling) -> Any:
            if path.problem.id == "b":
                raise KeyError("oops")
            return await super().sample(path, n, sampling)

    use(monkeypatch, Faulty())
    records = [{"id": name, "problem": QUESTION} for name in "abc"]
    done = run("--file", str(jsonl(tmp_path / "p.jsonl", *records)), "--budget", "2")
    assert done.exit_code == 1
    assert "error: problem b: KeyError: 'oops'; --debug shows where" in done.stderr
    assert "2 problems solved, 1 failed" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_out_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = problem_file(tmp_path / "p.jsonl", fake_problems(1))
    message = refused("--file", str(file), *FAKE, "--out", str(tmp_path / "no" / "out.jsonl"))
    assert "cannot write" in message


def test_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file, full = problem_file(tmp_path / "p.jsonl", fake_problems(3)), tmp_path / "out.jsonl"
    full.symlink_to("/dev/full")
    done = run("--file", str(file), *FAKE, "--trace", str(full))
    assert done.exit_code == 1
    assert f"error: cannot write {full}: No space left on device" in done.stderr


def test_no_problem_and_no_stdin_is_refused() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from router import cli; sys.stdin = None; cli.main()",
            "solve",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "give a PROBLEM" in done.stderr


SLOW_CLI = """
from router import cli
from router.models.generators import load as loading
from router.models.fakes import FakeGenerator
async def load(*args, **options):
    return FakeGenerator(seconds_per_token=0.002)
loading.load_generator = load
cli.main()
"""


def test_interrupt_keeps_what_has_finished(tmp_path: Path) -> None:
    file, out = problem_file(tmp_path / "p.jsonl", fake_problems(200)), tmp_path / "out.jsonl"
    args = ["solve", "--file", str(file), "--out", str(out), "--budget", "1", "--in-flight", "1"]
    args += ["--verifier", "none"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_CLI, *args], stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 60
        while not (out.exists() and out.read_text().count("\n") >= 2):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "--resume goes on" in stderr
    solutions = [json.loads(line) for line in out.read_text().splitlines()]
    assert 2 <= len(solutions) < 200
    assert f"{counted(len(solutions), 'problem')} solved" in stderr


def test_problem_ids_stay_apart_in_one_batch(tmp_path: Path) -> None:
    """Two problems with one text are two problems."""
    file = jsonl(
        tmp_path / "p.jsonl",
        {"id": "a", "problem": QUESTION},
        {"id": "b", "problem": QUESTION},
    )
    done = run("--file", str(file), *FAKE, "--budget", "2")
    assert {json.loads(x)["problem_id"] for x in done.stdout.splitlines()} == {"a", "b"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine-arg", "dtype=float16"), "--engine-arg is for vLLM, and the generator runs on"),
        (("--verifier-arg", "dtype=half"), "--verifier-arg is for vLLM, and no verifier is opened"),
        (("--engine-arg", "dtype"), "--engine-arg 'dtype': write KEY=VALUE"),
    ],
)
def test_engine_arguments_that_nothing_takes_are_refused(
    options: tuple[str, str], said: str
) -> None:
    assert said in refused(QUESTION, *FAKE, *options)


def test_engine_arguments_reach_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    async def load(pairs: dict[str, Pair], *_: Any) -> Any:
        seen.update(vars(pairs[""]))
        raise InputError("far enough")

    monkeypatch.setattr("router.core.load_models", load)
    more = ("--engine-arg", "tensor_parallel_size=2", "--engine-arg", "dtype=half")
    refused(QUESTION, *FAKE, *more, "--verifier-arg", "max_model_len=4096")
    assert seen["engine_args"] == {"tensor_parallel_size": 2, "dtype": "half"}
    assert seen["verifier_args"] == {"max_model_len": 4096}
