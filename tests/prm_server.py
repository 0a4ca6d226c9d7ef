"""A stand-in for `vllm serve` of a process reward model, as far as `router` asks it.

A token's score depends on it and all tokens before it, so that a prefix decides as in a causal
model. As a process of its own:

    python -m tests.prm_server PORT NAME
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

import httpx
import numpy as np

TAG = 151651
Answer = tuple[int, dict[str, Any]]


def probability(ids: Sequence[int]) -> float:
    """What the stand-in thinks of the last of these tokens."""
    return hashlib.sha256(np.array(ids, dtype="<i8").tobytes()).digest()[0] / 255


def logits(ids: Sequence[int]) -> list[tuple[float, float]]:
    """Both numbers of each token; the softmax of the second is its `probability`."""
    good = [probability(ids[: end + 1]) for end in range(len(ids))]
    return [(0.5, 0.5 + log(max(p, 1e-30) / max(1 - p, 1e-30))) for p in good]


class PrmServer:
    """Answers paths and bodies.

    plugin: whether it runs ours, and so keeps prefixes, in blocks of 4 tokens. step: whether it
    pools as vLLM does unless told otherwise: rows at a tag only. runner: `pooling` or `generate`.
    """

    def __init__(
        self,
        name: str = "prm",
        *,
        root: str | None = None,
        context: int = 512,
        plugin: bool = False,
        step: bool = False,
        runner: str = "pooling",
    ) -> None:
        self.card = {"id": name, "root": root or name, "max_model_len": context}
        self.context = context
        self.plugin = plugin
        self.step = step
        self.runner = runner
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._cached: set[tuple[int, ...]] = set()

    def __call__(self, path: str, body: dict[str, Any]) -> Answer:
        self.seen.append((path, body))
        if path == "/v1/models":
            return 200, {"object": "list", "data": [self.card]}
        if path == "/pooling" and self.runner == "pooling":
            return self._pooling(body)
        if path == "/generative_scoring" and self.runner == "generate":
            return self._words(body)
        return 404, {"detail": "Not Found"}

    async def over_http(self, request: httpx.Request) -> httpx.Response:
        """The same as a transport's handler."""
        body = json.loads(request.content) if request.content else {}
        status, answer = self(request.url.path, body)
        return httpx.Response(status, json=answer)

    def _pooling(self, body: dict[str, Any]) -> Answer:
        if "data" in body and not self.plugin:
            return _refused("No IOProcessor plugin installed.")
        ids = body["data"] if "data" in body else body["input"]
        if len(ids) > self.context:
            return _refused(
                f"This model's maximum context length is {self.context} tokens. However, your "
                f"prompt contains {len(ids)} input tokens"
            )
        assert "data" in body or body["use_activation"] is False
        found = logits(ids)
        if self.step:
            found = [row for row, token in zip(found, ids, strict=True) if token == TAG]
        if "data" not in body:
            return 200, {"data": [{"index": 0, "data": _encoded(found)}]}
        starts = [tuple(ids[:end]) for end in range(4, len(ids), 4)]
        cached = max((len(start) for start in starts if start in self._cached), default=0)
        self._cached |= set(starts)
        return 200, {"data": {"logits": _encoded(found[cached:]), "cached_tokens": cached}}

    def _words(self, body: dict[str, Any]) -> Answer:
        prompts = [[*body["query"], *item][: self.context - 1] for item in body["items"]]
        data = [{"index": at, "score": probability(ids)} for at, ids in enumerate(prompts)]
        return 200, {"data": data[::-1]}


def _refused(why: str) -> Answer:
    return 400, {"error": {"message": why, "type": "BadRequestError", "code": 400}}


def _encoded(found: Sequence[tuple[float, float]]) -> str:
    return base64.b64encode(np.array(found, dtype="<f4").tobytes()).decode()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server_: PrmServer

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: dict[str, Any]) -> None:
        status, answer = self.server_(self.path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    port, name = sys.argv[1:]
    Handler.server_ = PrmServer(name, context=4096)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
