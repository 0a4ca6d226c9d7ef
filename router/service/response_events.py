"""Writes the objects and events of OpenAI's responses API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

from router.service.answers import Reply, Tokens, brief, pieces
from router.service.errors import ServiceError
from router.service.streaming import Writer


@dataclass(frozen=True)
class ResponseWriter(Writer):
    """Writes one response. echoed: what it says of its request."""

    echoed: Mapping[str, Any]
    response_id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _numbers: Iterator[int] = field(default_factory=count)

    def whole(self, answers: Sequence[Reply]) -> dict[str, Any]:
        [answer] = answers
        return self._ended(answer, answer.found)

    def start(self) -> Iterator[bytes]:
        response = self._response("in_progress")
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def answer(self, answer: Reply) -> Iterator[bytes]:
        response = self._ended(answer, brief(answer.found))
        for index, item in enumerate(response["output"]):
            yield from self._item(index, item)
        yield self._event(f"response.{response['status']}", response=response)

    def failure(self, failure: ServiceError) -> Iterator[bytes]:
        error = failure.to_dict()["error"]
        # The name that the API has for every failure of a server's own.
        response = self._response("failed") | {
            "error": {"code": error["code"] or "server_error", "message": error["message"]}
        }
        yield self._event(
            "error", code=error["code"], message=error["message"], param=error["param"], error=error
        )
        yield self._event("response.failed", response=response)

    def _item(self, index: int, item: dict[str, Any]) -> Iterator[bytes]:
        """The events by which one item of the output is told, its one part in pieces."""
        at = {"output_index": index}
        [part] = item["content"]
        begun = {**item, "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", **at, item=begun)
        kind = part["type"]
        name = "refusal" if kind == "refusal" else "text"
        inside = {**at, "item_id": item["id"], "content_index": 0}
        further: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        yield self._event("response.content_part.added", **inside, part={**part, name: ""})
        for piece in pieces(part[name]):
            yield self._event(f"response.{kind}.delta", **inside, delta=piece, **further)
        yield self._event(f"response.{kind}.done", **inside, **{name: part[name]}, **further)
        yield self._event("response.content_part.done", **inside, part=part)
        yield self._event("response.output_item.done", **at, item=item)

    def _ended(self, answer: Reply, found: dict[str, Any]) -> dict[str, Any]:
        cut = answer.finish == "length"
        output = [_message(self.response_id, answer)]
        if answer.thoughts:
            output.insert(0, _thoughts(self.response_id, answer.thoughts))
        return self._response("incomplete" if cut else "completed") | {
            "completed_at": None if cut else int(time.time()),
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": output,
            "usage": answer.tokens and _usage(answer.tokens),
            "router": found,
        }

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            **self.echoed,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": next(self._numbers), **fields}
        # Not in ASCII: the last events hold the whole text, and need not be longer than it is.
        text = json.dumps(event, ensure_ascii=False)
        return f"event: {kind}\ndata: {text}\n\n".encode("utf-8", "replace")


def _message(response_id: str, answer: Reply) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "refusal", "refusal": answer.refusal}
    if answer.text is not None:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    return {
        "id": response_id.replace("resp", "msg", 1),
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if answer.finish == "length" else "completed",
        "content": [part],
    }


def _thoughts(response_id: str, thoughts: str) -> dict[str, Any]:
    return {
        "id": response_id.replace("resp", "rs", 1),
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": thoughts}],
    }


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached or 0},
        "output_tokens": tokens.sampled,
        "output_tokens_details": {"reasoning_tokens": tokens.hidden or 0},
        "total_tokens": tokens.prompt + tokens.sampled,
    }
