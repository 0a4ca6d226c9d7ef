"""An OpenAI-compatible server of the fake generator, in a process of its own.

It speaks as vLLM's does, with one token a byte of text.

    python -m tests.completions_server PORT LOG SECONDS_PER_TOKEN
"""

from __future__ import annotations

import asyncio
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path as File
from typing import Any

from router.models.fakes import FakeGenerator
from router.models.types import Chain, Problem, Sampling, Step

_BETWEEN = 0  # ends the problem's own tokens in a prompt
_DELIMITER = "\n\n"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection; `log` gets a line for every completion that was asked for."""

    generator: FakeGenerator
    log: File

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "fake-server", "max_model_len": 16_384}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(self._tokens(body) if self.path == "/tokenize" else self._completion(body))

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        if "prompt" in body:
            return {"tokens": list(body["prompt"].encode())}
        return {"tokens": [*body["messages"][-1]["content"].encode(), _BETWEEN]}

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.log.open("a") as log:
            log.write(json.dumps({"n": body["n"], "seed": body.get("seed")}) + "\n")
        end = body["prompt"].index(_BETWEEN)
        problem, written = bytes(body["prompt"][:end]), bytes(body["prompt"][end + 1 :])
        path = Chain(Problem("p", problem.decode()))
        if written:
            path = path.extend(Step(written.decode(), "step", len(written)))
        sampling = Sampling(
            until="step" if _DELIMITER in body["stop"] else "end",
            temperature=body["temperature"],
            max_tokens=body["max_tokens"],
        )
        sampled = asyncio.run(self.generator.sample(path, body["n"], sampling))
        return {
            "choices": [
                {
                    "index": index,
                    "text": found.text,
                    "finish_reason": "length" if found.finish == "length" else "stop",
                    "stop_reason": _DELIMITER if found.finish == "step" else None,
                    "token_ids": list(found.text.encode()),
                    "logprobs": {
                        "tokens": list(found.text),
                        "token_logprobs": [-0.5] * len(found.text),
                    },
                }
                for index, found in enumerate(sampled.continuations)
            ],
            "usage": {"prompt_tokens": len(body["prompt"])},
        }


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as a fit makes."""

    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    port, log, seconds_per_token = sys.argv[1:]
    Handler.generator = FakeGenerator(seconds_per_token=float(seconds_per_token))
    Handler.log = File(log)
    Server(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
