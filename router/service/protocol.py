"""What clients send: OpenAI's chat API with one field of ours, and what all bodies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from router.models.types import MAX_TEMPERATURE
from router.service.conversation import Turn
from router.service.errors import ServiceError
from router.service.fields import check_neutral, unsupported
from router.service.settings import Effort
from router.service.structured import Form, form_of
from router.strategies.budget import MAX_GENERATIONS

MAX_MESSAGES: Final = 2048
MAX_TOKENS: Final = 1 << 20
MAX_FIELDS: Final = 100

_ECHOED: Final = frozenset({"annotations", "cache_control", "logprobs"})
"""Of parts, what clients add or send back."""

_KINDS: Final[Mapping[str, str]] = {
    "audio": "audio is",
    "file": "files are",
    "image": "images are",
    "image_url": "images are",
    "input_audio": "audio is",
    "input_file": "files are",
    "input_image": "images are",
    "input_video": "videos are",
    "video_url": "videos are",
}
"""Parts of messages that are no text, and what they are."""


def _unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair, which is no character") from None
    return text


def _limit(value: Any) -> Any:
    """No limit is null, or -1, as llama.cpp's clients say it."""
    return None if value == -1 else value


def listed(value: Any) -> str:
    """Which of two forms a value has that may be one or a list."""
    return "list" if isinstance(value, list) else "one"


Text = Annotated[str, AfterValidator(_unicode)]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None,
    BeforeValidator(_limit),
]
_Stop = Annotated[Text, Field(min_length=1)]
Stop = Annotated[
    Annotated[_Stop | None, Tag("one")]
    | Annotated[list[_Stop], Field(max_length=4, fail_fast=True), Tag("list")],
    Discriminator(listed),
]


class Body(BaseModel):
    """Bodies are read strictly: nothing is converted, nothing dropped."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        """Each field that is refused costs time: thousands of them too much."""
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            message = f"an object of the body has {len(value)} fields; {MAX_FIELDS} is the most"
            raise ServiceError(400, message, "too_many_values", "body")
        return value


class Part(Body):
    """A piece of a message; only text is understood."""

    model_config = ConfigDict(extra="allow")

    type: Text
    text: Text | None = None

    def said(self, where: str) -> str:
        """Its text.

        Raises:
            ServiceError: it is no text; `where` it stands.
        """
        if self.type in _KINDS:
            raise unsupported(f"{where}.{self.type}", f"{_KINDS[self.type]} not understood here")
        if self.type == "refusal":
            return ""  # there was no answer
        for name, value in (self.model_extra or {}).items():
            if name not in _ECHOED and value not in (None, "", [], {}):
                raise unsupported(f"{where}.{name}")
        if self.type not in ("text", "input_text", "output_text"):
            raise unsupported(f"{where}.type", "only text is understood here")
        if self.text is None:
            raise ServiceError(400, f"{where}.text is required", "invalid_value", f"{where}.text")
        return self.text


Parts = Annotated[
    Annotated[Text | None, Tag("one")] | Annotated[list[Part], Field(fail_fast=True), Tag("list")],
    Discriminator(listed),
]


def said(content: str | Sequence[Part] | None, where: str) -> str:
    """The text of a message's content, which stands at `where`.

    Raises:
        ServiceError: a part of it is no text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.said(f"{where}[{at}]") for at, part in enumerate(content))


class ChatMessage(Body):
    """One turn. `name` is taken and not used; what answers carry may be echoed."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: Parts = None

    def turn(self, where: str) -> Turn:
        """It as a turn.

        Raises:
            ServiceError: it holds something else than text; `where` it stands.
        """
        for name, value in (self.model_extra or {}).items():
            # Earlier thoughts, and that there was no answer, are no part of the conversation.
            harmless = ("name", "reasoning_content", "reasoning", "refusal")
            if name not in harmless and value not in (None, "", [], {}):
                raise unsupported(f"{where}.{name}")
        if self.content is None and self.role != "assistant":
            field = f"{where}.content"
            raise ServiceError(400, f"{field} is required", "invalid_value", field)
        return Turn(self.role, said(self.content, f"{where}.content"), f"{where}.content")


Messages = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
]


class StreamOptions(Body):
    """include_usage: end the stream with a chunk that holds the usage."""

    include_usage: bool | None = False
    include_obfuscation: bool | None = False
    continuous_usage_stats: Literal[False] | None = False


class RouterOptions(Body):
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


@dataclass(frozen=True, slots=True)
class Ask:
    """One search that was asked for, in whichever API.

    form: what the answer is put into, if anything.
    max_tokens, temperature, top_p, stop: None where the router's own are wanted.
    """

    model: str
    turns: tuple[Turn, ...]
    options: RouterOptions
    effort: Effort | None = None
    form: Form | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None


class SearchBody(Body):
    """What the bodies of all three APIs share.

    Fields that are not listed may be there as long as they change nothing: `n: 1`, `tools: []`,
    `user`, … Any other field is refused.
    """

    model_config = ConfigDict(extra="allow")

    model: Text
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    router: RouterOptions = RouterOptions()

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def ask(self, turns: Sequence[Turn], **further: Any) -> Ask:
        """What is asked for.

        Raises:
            ServiceError: a field that would change the answer and cannot be honoured.
        """
        check_neutral(self.model_extra or {})
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Ask(
            self.model,
            tuple(turns),
            self.router,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=stop or None,
            **further,
        )

    def refuse_events(self, path: str) -> None:
        """For APIs whose streams have no place for ours."""
        for name in ("trace", "reasoning"):
            if getattr(self.router, name):
                raise unsupported(f"router.{name}", f"it is for {path}")


class ChatRequest(SearchBody):
    """The body of `POST /v1/chat/completions`."""

    messages: Messages
    max_completion_tokens: Limit = None
    max_tokens: Limit = None
    reasoning_effort: Effort | None = None
    response_format: dict[str, Any] | None = None

    def asked(self) -> Ask:
        """What is asked for.

        Raises:
            ServiceError: what cannot be honoured, or fields that contradict each other.
        """
        for name in ("trace", "reasoning"):
            if getattr(self.router, name) and not self.stream:
                field = f"router.{name}"
                raise ServiceError(400, f"{field} is for streams only", "invalid_value", field)
        limits = {self.max_completion_tokens, self.max_tokens} - {None}
        if len(limits) > 1:
            differ = "max_tokens and max_completion_tokens differ; send the latter only"
            raise ServiceError(400, differ, "invalid_value", "max_tokens")
        asked, where = self.response_format or {}, "response_format"
        if asked.get("type") == "json_schema":
            inner = asked.get("json_schema")
            asked = {"type": "json_schema", **(inner if isinstance(inner, dict) else {})}
            where += ".json_schema"
        return self.ask(
            [turn.turn(f"messages[{at}]") for at, turn in enumerate(self.messages)],
            effort=self.reasoning_effort,
            form=form_of(asked, where),
            max_tokens=limits.pop() if limits else None,
        )


class RouteRequest(Body):
    """The body of `POST /v1/route`: a problem, and the options that decide how it is searched."""

    problem: Annotated[Text, Field(min_length=1)]
    budget: Annotated[int, Field(ge=1, le=MAX_GENERATIONS)] | None = None
    strategy: Text = "auto"
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0
    task: Text = "maths"
