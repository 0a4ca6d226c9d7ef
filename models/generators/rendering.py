"""How a chain becomes the prompt of a request to a server: who renders it, and as what."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from reprlib import repr as shown
from typing import Any, ClassVar, TypeVar

from router.models.errors import InputError
from router.models.generators.endpoints import EndpointPool, HTTPFailure
from router.models.prompts import Prompt, forms
from router.models.tokens import PARAGRAPHS, ChainEncoder, next_turns, paragraphs
from router.models.types import Chain, Problem

logger = logging.getLogger("router")

K = TypeVar("K")
T = TypeVar("T")

_RECENT_PROBLEMS = 1024
_NO_TEMPLATE = re.compile(
    r"provide a chat.?template|no chat.?template|chat.?template\S* is not (set|defined)",
    re.IGNORECASE,
)
_FORMS = ("", ", neighbours of one role in one turn", ", the system text in the user's turn")


class Recent(dict[K, T]):
    """What was made of the last problems; the oldest is forgotten first."""

    def __setitem__(self, key: K, value: T) -> None:
        while len(self) >= _RECENT_PROBLEMS:
            del self[next(iter(self))]
        super().__setitem__(key, value)


class Renderer(ABC):
    """Writes the prompts of requests to one model. rendering: how, in words."""

    path: ClassVar[str] = "v1/completions"
    rendering: str

    @abstractmethod
    async def fields(self, chain: Chain) -> dict[str, Any]:
        """The fields of a request that continues `chain`."""

    def stops(self, chain: Chain) -> tuple[str, ...]:  # noqa: ARG002
        """Strings that end what continues `chain`, besides those that the caller asks for."""
        return ()


class _Locally(Renderer):
    def __init__(self, encoder: ChainEncoder) -> None:
        self._encoder = encoder

    @property
    def rendering(self) -> str:  # type: ignore[override]
        return self._encoder.rendering

    def stops(self, chain: Chain) -> tuple[str, ...]:
        return self._encoder.stops(chain)


class LocalTokens(_Locally):
    """Token ids, by a local tokenizer."""

    async def fields(self, chain: Chain) -> dict[str, Any]:
        return {"prompt": self._encoder.chain_ids(chain)}


class LocalText(_Locally):
    """Text, by a local tokenizer. The server adds the begin-of-text token itself."""

    async def fields(self, chain: Chain) -> dict[str, Any]:
        tokenizer = self._encoder.tokenizer
        rendered: str = tokenizer.decode(
            list(self._encoder.prompt_ids(chain.problem)),
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return {"prompt": rendered.removeprefix(tokenizer.bos_token or "") + chain.text}


class _ByServer(Renderer):
    """Problems in the first of their forms that the server's chat template takes."""

    def __init__(self, pool: EndpointPool, model: str, prompt: Prompt) -> None:
        self._pool = pool
        self._model = model
        self._prompt = prompt
        self._form = 0
        """The one that was taken last; those before it are not tried again."""

    @property
    def rendering(self) -> str:  # type: ignore[override]
        return "the server's chat template" + _FORMS[self._form]

    def _turns(self, problem: Problem, form: int) -> dict[str, Any]:
        args = self._prompt.template_args
        more = {"chat_template_kwargs": dict(args)} if args else {}
        turns = forms(self._prompt.messages(problem))[form]
        return {"messages": [asdict(turn) for turn in turns], **more}

    async def _taken(self, problem: Problem, render: Callable[[dict[str, Any]], Awaitable[T]]) -> T:
        """What `render` gives; it asks the server with the fields that it gets.

        Raises:
            InputError: the template refuses every form.
        """
        bodies = [self._turns(problem, form) for form in range(len(_FORMS))]
        refusal: HTTPFailure | None = None
        for at in range(self._form, len(bodies)):
            if refusal is not None and bodies[at] == bodies[at - 1]:
                continue
            try:
                rendered = await render(bodies[at])
            except HTTPFailure as failure:
                if not failure.by_template or _NO_TEMPLATE.search(failure.reason):
                    raise
                refusal = refusal or failure
            else:
                self._form = max(self._form, at)
                return rendered
        assert refusal is not None
        roles = ", ".join(turn["role"] for turn in bodies[0]["messages"])
        why = f"prompt {self._prompt.id!r} with turns ({roles}): {refusal.reason}"
        logger.info("the server's chat template refuses %s", why)
        raise InputError(
            f"the server's chat template refuses {why}; choose another prompt"
        ) from refusal


class ServerTokens(_ByServer):
    """Token ids, by the server's `/tokenize` (vLLM, SGLang)."""

    def __init__(self, pool: EndpointPool, model: str, prompt: Prompt) -> None:
        super().__init__(pool, model, prompt)
        self._base = False
        self._rendered = Recent[Problem, tuple[int, ...]]()

    @property
    def rendering(self) -> str:  # type: ignore[override]
        return PARAGRAPHS if self._base else super().rendering

    def stops(self, chain: Chain) -> tuple[str, ...]:
        return next_turns(chain) if self._base else ()

    async def fields(self, chain: Chain) -> dict[str, Any]:
        known = self._rendered.get(chain.problem)
        if known is None:
            known = await self._problem_ids(chain.problem)
            self._rendered[chain.problem] = known
        ids = list(known)
        for step in chain.steps:
            if step.token_ids is None:
                ids += await self._tokenize({"prompt": step.text, "add_special_tokens": False})
            else:
                ids += step.token_ids
        return {"prompt": ids}

    async def _problem_ids(self, problem: Problem) -> tuple[int, ...]:
        if not self._base:
            try:
                return await self._taken(problem, self._tokenize_turns)
            except HTTPFailure as failure:
                if not _NO_TEMPLATE.search(failure.reason):
                    raise
                self._base = True
        return await self._tokenize({"prompt": paragraphs(self._prompt.messages(problem))})

    async def _tokenize_turns(self, turns: dict[str, Any]) -> tuple[int, ...]:
        return await self._tokenize({**turns, "add_generation_prompt": True})

    async def _tokenize(self, body: dict[str, Any]) -> tuple[int, ...]:
        answer = await self._pool.call("POST", "tokenize", {"model": self._model, **body})
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not tokens or not all(type(t) is int for t in tokens):
            raise InputError(f"its /tokenize answers no tokens, but {shown(answer)}")
        return tuple(tokens)


class ServerText(_ByServer):
    """Text, by the server's `/apply-template` (llama.cpp)."""

    def __init__(self, pool: EndpointPool, model: str, prompt: Prompt) -> None:
        super().__init__(pool, model, prompt)
        self._rendered = Recent[Problem, str]()

    async def fields(self, chain: Chain) -> dict[str, Any]:
        known = self._rendered.get(chain.problem)
        if known is None:
            known = await self._taken(chain.problem, self._apply)
            self._rendered[chain.problem] = known
        return {"prompt": known + chain.text}

    async def _apply(self, turns: dict[str, Any]) -> str:
        answer = await self._pool.call("POST", "apply-template", turns)
        text = answer.get("prompt")
        if not isinstance(text, str):
            raise InputError(f"its /apply-template answers no text, but {shown(answer)}")
        return text


class ServerChat(_ByServer):
    """The turns themselves. Steps open the assistant's turn, and the server is asked to go on with
    it (`continue_final_message`: vLLM, SGLang); llama.cpp and Ollama do so of themselves."""

    path: ClassVar[str] = "v1/chat/completions"

    def __init__(self, pool: EndpointPool, model: str, prompt: Prompt) -> None:
        super().__init__(pool, model, prompt)
        self._tried: set[tuple[str, ...]] = set()

    async def fields(self, chain: Chain) -> dict[str, Any]:
        roles = tuple(turn.role for turn in self._prompt.messages(chain.problem))
        if roles not in self._tried:
            await self._taken(chain.problem, self._try)
            self._tried.add(roles)
        turns = self._turns(chain.problem, self._form)
        if not chain.steps:
            return turns
        turns["messages"].append({"role": "assistant", "content": chain.text})
        return {**turns, "add_generation_prompt": False, "continue_final_message": True}

    async def _try(self, turns: dict[str, Any]) -> None:
        """Whether the server takes such turns shows only where it samples after them."""
        body = {"model": self._model, **turns, "max_tokens": 1, "n": 1}
        await self._pool.call("POST", self.path, body)
