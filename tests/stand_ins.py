"""Servers as SGLang's and llama.cpp's answer, on loopback; the fake generator writes the text.

Each class names the sources that it was written from. One token is one byte of text; a chat is
rendered as its template would, or refused.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from router.models.fakes import FakeGenerator
from router.models.types import Chain, Continuation, Problem, Sampling, Step

_ASSISTANT = "<|assistant|>\n"
_END = 0  # the token that ends a turn


class Refused(Exception):
    """What a server answers instead: a status, and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class StandIn:
    """What the servers have in common. seen: (path, body) of each request.

    system: whether its chat template has a system role (Gemma's has none). strict: whether turns
    must alternate. context: tokens. lasts: seconds that a token takes.
    """

    def __init__(
        self,
        *,
        system: bool = True,
        strict: bool = False,
        context: int = 4096,
        lasts: float = 0.0,
        generator: FakeGenerator | None = None,
    ) -> None:
        self.system = system
        self.strict = strict
        self.context = context
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._generator = generator or FakeGenerator(seconds_per_token=lasts)

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted to a path."""
        return [body for at, body in self.seen if at == path]

    def get(self, path: str) -> Any:
        raise Refused(404, f"no {path}")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        raise Refused(404, f"no {path}")

    def error(self, refused: Refused) -> Any:
        raise NotImplementedError

    def render(self, messages: list[dict[str, str]]) -> str:
        roles = [message["role"] for message in messages]
        if "system" in roles and not self.system:
            raise Refused(400, "System role not supported")
        spoken = [role for role in roles if role != "system"]
        if self.strict and spoken != (["user", "assistant"] * len(spoken))[: len(spoken)]:
            raise Refused(400, "Conversation roles must alternate user/assistant/user/assistant/…")
        return "".join(f"<|{m['role']}|>\n{m['content']}<|end|>\n" for m in messages) + _ASSISTANT

    def sample(self, prompt: str, body: dict[str, Any], n: int) -> list[tuple[Continuation, str]]:
        """n continuations of a rendered prompt, each with the stop string that ended it, if any."""
        if len(prompt.encode()) + 1 > self.context:
            raise Refused(400, self.too_long(len(prompt.encode())))
        asked, _, written = prompt.rpartition(_ASSISTANT)
        chain = Chain(Problem("p", asked.rpartition("<|user|>\n")[2].removesuffix("<|end|>\n")))
        if written:
            chain = chain.extend(Step(written, "step", len(written)))
        stops = body.get("stop") or []
        sampling = Sampling(
            until="step" if "\n\n" in stops else "end",
            temperature=body.get("temperature", 1.0),
            max_tokens=body["max_tokens"],
            stop=tuple(stop for stop in stops if stop != "\n\n"),
        )
        found = asyncio.run(self._generator.sample(chain, n, sampling)).continuations
        return [(one, "\n\n" if one.finish == "step" else "") for one in found]

    def too_long(self, tokens: int) -> str:
        raise NotImplementedError


class SGLang(StandIn):
    """SGLang's server (sgl-project/sglang, read at commit 004c82e0, python/sglang/srt/).

    entrypoints/openai/protocol.py: ModelCard, CompletionRequest, CompletionResponseChoice,
    TokenizeRequest, ErrorResponse, UsageInfo; serving_completions.py: `matched_stop`, `token_ids`
    (with `return_token_ids`), and that `logprobs: 0` gives tokens; serving_base.py: the shape of
    errors, without an outer `error`; sampling/sampling_params.py: `top_k` 0 is refused. Text keeps
    its stop string under `no_stop_trim`. old: as before `return_token_ids` and before `/tokenize`
    took messages (serving_tokenize.py at 0351c1fa): only chats are rendered.
    """

    def __init__(self, *, old: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.old = old

    def get(self, path: str) -> Any:
        if path == "/v1/models":
            card = {"id": "qwen", "object": "model", "owned_by": "sglang", "root": "qwen"}
            return {"object": "list", "data": [card | {"max_model_len": self.context}]}
        return super().get(path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            return self._tokens(body)
        if body.get("top_k", -1) == 0:
            raise Refused(400, "top_k must be -1 (disable) or at least 1, got 0.")
        if path == "/v1/completions":
            prompt = body["prompt"]
            text = prompt if isinstance(prompt, str) else bytes(prompt).decode()
            return self._answer(text, body, chat=False)
        if path == "/v1/chat/completions":
            return self._answer(self._chat(body), body, chat=True)
        return super().post(path, body)

    def error(self, refused: Refused) -> Any:
        return {
            "object": "error",
            "message": refused.reason,
            "type": "BadRequestError",
            "param": None,
            "code": refused.status,
        }

    def too_long(self, tokens: int) -> str:
        limit = f"the model's context length ({self.context} tokens)"
        return f"The input ({tokens} tokens) is longer than {limit}."

    def _tokens(self, body: dict[str, Any]) -> Any:
        if "prompt" in body:
            tokens = list(body["prompt"].encode())
        elif self.old:
            raise Refused(400, "1 validation error: prompt Field required")
        else:
            tokens = list(self.render(body["messages"]).encode())
        return {"tokens": tokens, "count": len(tokens), "max_model_len": self.context}

    def _chat(self, body: dict[str, Any]) -> str:
        messages, prefix = body["messages"], ""
        if body.get("continue_final_message") and messages[-1]["role"] == "assistant":
            messages, prefix = messages[:-1], messages[-1]["content"]
        return self.render(messages) + prefix

    def _answer(self, prompt: str, body: dict[str, Any], *, chat: bool) -> Any:
        n = body.get("n", 1)
        found = self.sample(prompt, body, n)
        choices = []
        for index, (one, stop) in enumerate(found):
            text = one.text if body.get("no_stop_trim") else one.text.removesuffix(stop)
            ids = list(one.text.encode()) + ([_END] if one.finish == "stop" else [])
            matched = stop or (_END if one.finish == "stop" else None)
            choice: dict[str, Any] = {
                "index": index,
                "logprobs": None,
                "finish_reason": "length" if one.finish == "length" else "stop",
                "matched_stop": matched,
            }
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            if body.get("logprobs") is not None and not chat:
                strings = [bytes([token]).decode(errors="replace") for token in ids]
                choice["logprobs"] = {
                    "text_offset": [],
                    "tokens": strings,
                    "token_logprobs": [-0.5] * len(ids),
                    "top_logprobs": [],
                }
            if body.get("return_token_ids") and not self.old:
                choice["token_ids"] = ids
            choices.append(choice | said)
        used = sum((one.tokens or 0) + 1 for one, _ in found)
        usage = {"prompt_tokens": len(prompt.encode()), "completion_tokens": used}
        return {"id": "x", "choices": choices, "usage": usage | {"prompt_tokens_details": None}}


class LlamaCpp(StandIn):
    """llama.cpp's server (ggml-org/llama.cpp, read at commit fb402660, tools/server/).

    server-context.cpp: `/v1/models`, `/props`, `/apply-template`, and a `/tokenize` that knows
    only `content` and answers no tokens for anything else; n choices are one answer whose usage is
    the first one's. server-task.cpp (at 00efb3e1): `to_json_oaicompat`, which says `stop` and not
    why, cuts the stop string, and has log-probabilities under `content`, none for `logprobs: 0`;
    `n` over the number of slots is refused. server-common.cpp: the shape of errors. A template's
    refusal is a 500 that quotes its source first (issue 19851).
    """

    def __init__(self, *, slots: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.slots = slots

    def get(self, path: str) -> Any:
        if path == "/v1/models":
            meta = {"vocab_type": 2, "n_vocab": 256, "n_ctx_train": 131072, "size": 1}
            card = {"id": "qwen.gguf", "object": "model", "owned_by": "llamacpp", "meta": meta}
            return {"models": [], "object": "list", "data": [card]}
        if path == "/props":
            settings = {"params": {}, "n_ctx": self.context}
            return {"default_generation_settings": settings, "total_slots": self.slots}
        return super().get(path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            return {"tokens": list(body.get("content", "").encode())}
        if path == "/apply-template":
            return {"prompt": self.render(body["messages"])}
        if path == "/v1/completions":
            return self._answer(body)
        return super().post(path, body)

    def render(self, messages: list[dict[str, str]]) -> str:
        try:
            return super().render(messages)
        except Refused as refused:
            source = (
                "\n------------\nWhile executing CallExpression at line 1, column 9 in source:\n"
            )
            quoted = f"{source}{{{{ raise_exception('…') }}}}\n{'x' * 400}\n^\nError: "
            raise Refused(500, f"{quoted}Jinja Exception: {refused.reason}") from None

    def error(self, refused: Refused) -> Any:
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        if "context size" in refused.reason:
            kind = "exceed_context_size_error"
        return {"error": {"code": refused.status, "message": refused.reason, "type": kind}}

    def too_long(self, tokens: int) -> str:
        size = f"the available context size ({self.context} tokens)"
        return f"request ({tokens} tokens) exceeds {size}, try increasing it"

    def _answer(self, body: dict[str, Any]) -> Any:
        n = body.get("n", 1)
        if n > self.slots:
            reason = "n_cmpl cannot be greater than the number of slots, please increase -np"
            raise Refused(400, reason)
        prompt = body["prompt"]
        text = prompt if isinstance(prompt, str) else bytes(prompt).decode()
        found = self.sample(text, body, n)
        choices = []
        for index, (one, stop) in enumerate(found):
            said = one.text.removesuffix(stop)
            each = [{"id": byte, "token": chr(byte), "logprob": -0.5} for byte in said.encode()]
            if one.finish == "stop":
                each.append({"id": _END, "token": "", "logprob": -0.5})
            choices.append(
                {
                    "text": said,
                    "index": index,
                    "logprobs": {"content": each} if body.get("logprobs") and each else None,
                    "finish_reason": "length" if one.finish == "length" else "stop",
                }
            )
        first = found[0][0]
        decoded = (first.tokens or 0) + (first.finish == "stop")
        return {
            "choices": choices,
            "object": "text_completion",
            "usage": {"completion_tokens": decoded, "prompt_tokens": len(text.encode())},
            "timings": {"cache_n": 3, "prompt_n": len(text.encode()) - 3},
        }


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Its URL, while it serves from a thread of this process."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({}, lambda _: stand_in.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.seen.append((self.path, body))
            self._reply(body, lambda body: stand_in.post(self.path, body))

        def log_message(self, *_: Any) -> None:
            pass

        def _reply(self, body: dict[str, Any], make: Any) -> None:
            status = 200
            try:
                answer = make(body)
            except Refused as refused:
                status, answer = refused.status, stand_in.error(refused)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
