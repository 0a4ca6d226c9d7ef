"""What clients send, and what they get: OpenAI's chat API with one field of ours, `router`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from router.service.errors import ServiceError
from router.strategies.budget import MAX_GENERATIONS

MAX_MESSAGES: Final = 2048
MAX_TOKENS: Final = 1 << 20

_IGNORED: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields of OpenAI's API that change no answer here."""

_OFF: Final[Mapping[str, Any]] = {
    "frequency_penalty": 0,
    "function_call": "none",
    "functions": [],
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": 0,
}
"""Fields of OpenAI's API that are accepted at the value at which they change no answer."""


def _unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(_Body):
    """A piece of a message; the only kind that is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(_Body):
    """One turn. Fields that clients echo from earlier answers may be there, but empty."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Body):
    """include_usage: end the stream with a chunk that holds the usage."""

    include_usage: bool | None = False


class RouterOptions(_Body):
    """How the problem is searched; every field may be left out.

    budget: generations. strategy: `auto`, or one such as `beam_search(n=16, width=4)`.
    tolerance: expected accuracy that may be given up for a cheaper search.
    task: what the problem asks for, by its id: `maths`, `choice`, `text`, `open`, …
    token_cap: most sampled tokens. deadline: seconds, the server's own at most.
    trace: stream the decision and the growing tree as further chunks without choices.
    reasoning: stream the progress as `reasoning_content`, not as comments.
    """

    budget: Annotated[int, Field(ge=1, le=MAX_GENERATIONS)] | None = None
    strategy: Text = "auto"
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0
    task: Text = "maths"
    token_cap: Annotated[int, Field(ge=1, le=2**53)] | None = None
    deadline: Annotated[float, Field(gt=0)] | None = None
    trace: bool = False
    reasoning: bool = False


class ChatRequest(_Body):
    """The body of `POST /v1/chat/completions`.

    Fields of OpenAI's API that are not listed may be there as long as they change nothing: `n: 1`,
    `tools: []`, `user`, … Any other field is refused.
    """

    model_config = ConfigDict(extra="allow")

    model: Text
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    router: RouterOptions = RouterOptions()

    def check(self) -> None:
        """Refuse what cannot be honoured, rather than drop it.

        Raises:
            ServiceError: a field that would change the answer, or two that contradict each other.
        """
        for name, value in (self.model_extra or {}).items():
            if name not in _IGNORED and value is not None and value != _OFF.get(name):
                _refuse(name)
        for index, message in enumerate(self.messages):
            for name, value in (message.model_extra or {}).items():
                # Earlier progress is no part of the conversation.
                if name != "reasoning_content" and value not in (None, "", [], {}):
                    _refuse(f"messages.{index}.{name}")
        for name, used in (
            ("stream_options", self.stream_options is not None),
            ("router.trace", self.router.trace),
            ("router.reasoning", self.router.reasoning),
        ):
            if used and not self.stream:
                raise ServiceError(400, f"{name} is for streams only", "invalid_value", name)
        limits = {self.max_completion_tokens, self.max_tokens} - {None}
        if len(limits) > 1:
            differ = "max_tokens and max_completion_tokens differ; send the latter only"
            raise ServiceError(400, differ, "invalid_value", "max_tokens")


class RouteRequest(_Body):
    """The body of `POST /v1/route`: a problem, and the options that decide how it is searched."""

    problem: Annotated[Text, Field(min_length=1)]
    budget: Annotated[int, Field(ge=1, le=MAX_GENERATIONS)] | None = None
    strategy: Text = "auto"
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0
    task: Text = "maths"


def _refuse(name: str) -> None:
    off = f"; only {_OFF[name]!r} is" if name in _OFF else ""
    raise ServiceError(
        400, f"{name[:80]} is not supported with this value{off}", "unsupported_value", name[:80]
    )
