"""A generator on servers with OpenAI's API: vLLM, SGLang, llama.cpp, and others.

Ways to speak, found out once at load, the best first:

- exact: the server takes token ids and returns them (vLLM, SGLang), so that a chain's prompt
  starts with its parent's. The server's `/tokenize` renders problems, or a local tokenizer.
- text: prompts are text, rendered by a local tokenizer or by the server (llama.cpp).
- chat: the turns themselves, where nobody renders.

The last two may not say whether a stop string or the model's own end came: see
`completions.text_continuation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import httpx

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError, PromptTooLong
from router.models.extras import require
from router.models.generators.completions import (
    Answer,
    CompletionChoice,
    ended_by,
    exact_continuation,
    joined,
    parse_answer,
    text_continuation,
    total,
    up_to_last_token,
)
from router.models.generators.endpoints import EndpointPool, HTTPFailure
from router.models.generators.rendering import (
    LocalText,
    LocalTokens,
    Renderer,
    ServerChat,
    ServerText,
    ServerTokens,
)
from router.models.prompts import Prompt
from router.models.steps import first_end, step_stops
from router.models.tokens import ChainEncoder, room
from router.models.types import Chain, Problem, Sampled, Sampling, Step

_EXACT: Mapping[str, Any] = {
    "return_token_ids": True,
    "logprobs": 0,
    # The stop string stays in the text: by its name in vLLM, and in SGLang.
    "include_stop_str_in_output": True,
    "no_stop_trim": True,
    # vLLM's server fills these from the model's generation config unless they are sent.
    "top_k": -1,
    "repetition_penalty": 1.0,
}
"""Fields of exact requests beyond those of the common API."""

_TEXT: Mapping[str, Any] = {"logprobs": 1}
"""Of text requests. 0 would do, but llama.cpp takes that for none."""

STOP_STRINGS = 4
"""Most that a server takes: OpenAI's limit, and vLLM's (`VLLM_MAX_STOP_STRINGS`)."""

_MOST_STOPS = 16
"""Times that a server may stop at what ends no step before the step counts as ended."""

_LLAMA = "llamacpp"
"""How llama.cpp's server says who owns its models."""


class OpenAIGenerator:
    """Samples from one model on one or many servers, the load spread over them.

    Use it from one event loop. Where the servers take seeds and one call needs several requests,
    they count up from its seed.
    """

    def __init__(
        self,
        pool: EndpointPool,
        prompt: Prompt,
        info: GeneratorInfo,
        renderer: Renderer,
        *,
        exact: bool,
    ) -> None:
        self._pool = pool
        self._prompt = prompt
        self._info = info
        self._renderer = renderer
        self._exact = exact
        self._one_by_one = False

    @classmethod
    async def load(
        cls,
        endpoints: Sequence[str],
        *,
        model: str | None,
        prompt: Prompt,
        tokenizer: str | None = None,
        api_key: str | None = None,
        seeds: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> OpenAIGenerator:
        """Ask the servers what they can do.

        endpoints: base URLs, with or without `/v1`; all of them serve `model`.
        model: None takes the only model that is served.
        tokenizer: directory or hub id, for servers that cannot render a chat.
        seeds: whether requests may carry a seed. vLLM's CPU build dies of one, and does not say
            that it is one, so this has to be said.
        transport: what carries the HTTP calls; None for the network.

        Raises:
            InputError: no such model, several and none named, or no way to render a problem.
            EngineError: no endpoint answers.
        """
        pool = EndpointPool(endpoints, api_key=api_key, transport=transport)
        try:
            card = _choose(await pool.call("GET", "v1/models"), model)
            info = GeneratorInfo(
                model=card["id"],
                engine="openai",
                prompt=prompt.id,
                context=await _context(pool, card),
                seeds=seeds,
            )
            if tokenizer:
                encoder = await asyncio.to_thread(_local_tokenizer, tokenizer, prompt)
                info = replace(info, thinks=encoder.thinks)
                exact = cls(pool, prompt, info, LocalTokens(encoder), exact=True)
                if await exact._probe() is None:
                    return exact
                return cls(pool, prompt, info, LocalText(encoder), exact=False)
            whys = []
            for renderer in _by_server(pool, card, prompt):
                generator = cls(
                    pool, prompt, info, renderer, exact=isinstance(renderer, ServerTokens)
                )
                why = await generator._probe()
                if why is None:
                    return generator
                whys.append(why)
            raise InputError(
                f"the server of {info.model!r} can neither render a chat nor answer one "
                f"({'; '.join(whys)}); give the model's tokenizer (a directory or a hub id)"
            )
        except BaseException:
            await pool.aclose()
            raise

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    @property
    def rendering(self) -> str:
        """How problems are written for the model, in words."""
        how = "token ids" if self._exact else "text"
        return f"{self._renderer.rendering}; {how}"

    def __repr__(self) -> str:
        return f"OpenAIGenerator(model={self._info.model!r}, pool={self._pool!r})"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        """n continuations of `chain`: one request, and single ones for what a server left out.

        Raises:
            EngineError, PromptTooLong, InputError: see `models.base.Generator`.
        """
        if sampling.seed is not None and not self._info.seeds:
            raise InputError(f"seed={sampling.seed}: it was not said that the servers take seeds")
        answers = await self._answers(await self._request(chain, sampling), n, sampling.seed)
        if sampling.until == "step":
            answers = [await self._to_step_ends(chain, sampling, answer) for answer in answers]
        read = exact_continuation if self._exact else text_continuation
        return Sampled(
            continuations=tuple(
                read(choice, sampling, self._prompt.delimiter, chain.ahead)
                for answer in answers
                for choice in answer.choices
            ),
            prompt_tokens=total(answer.prompt_tokens for answer in answers),
            cached_tokens=total(answer.cached_tokens for answer in answers),
        )

    async def _request(self, chain: Chain, sampling: Sampling) -> dict[str, Any]:
        """The body of a request, without n and seed."""
        others = [*sampling.stop, *self._renderer.stops(chain)]
        ends = self._stops[: max(1, STOP_STRINGS - len(others))]
        body: dict[str, Any] = {
            "model": self._info.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": [*(ends if sampling.until == "step" else ()), *others],
            **await self._renderer.fields(chain),
        }
        if not self._exact:
            return body if isinstance(self._renderer, ServerChat) else {**body, **_TEXT}
        if self._info.context is not None:
            body["max_tokens"] = room(len(body["prompt"]), self._info.context, sampling.max_tokens)
        return {**body, **_EXACT}

    async def _answers(self, request: Mapping[str, Any], n: int, seed: int | None) -> list[Answer]:
        """n choices, by as few requests as the server needs for them."""
        if n > 1 and not self._one_by_one:
            try:
                first = await self._complete(request, n, seed)
            except HTTPFailure as failure:
                # llama.cpp refuses more choices than it has slots. If it is not that, the first
                # of the single requests will say so.
                if failure.status not in (400, 422):
                    raise
                answers = await self._singles(request, range(n), seed)
                self._one_by_one = True
                return answers
            # Servers that ignore n (Ollama, older llama.cpp) give one choice.
            rest = range(len(first.choices), n)
            return [first, *await self._singles(request, rest, seed)]
        return await self._singles(request, range(n), seed)

    async def _complete(self, request: Mapping[str, Any], n: int, seed: int | None) -> Answer:
        body = {**request, "n": n} if seed is None else {**request, "n": n, "seed": seed}
        try:
            answer = self._read(await self._pool.call("POST", self._renderer.path, body))
        except HTTPFailure as failure:
            if failure.by_context:
                raise PromptTooLong(
                    f"the server of {self._info.model!r} refuses the prompt: {failure.reason}"
                ) from failure
            raise
        if len(answer.choices) > n:
            raise EngineError(f"the server answered {len(answer.choices)} choices for n={n}")
        return answer

    async def _to_step_ends(self, chain: Chain, sampling: Sampling, answer: Answer) -> Answer:
        """Sample on where the server stopped at what ends no step.

        A server that does not say why it stopped is believed to have met the delimiter only where
        a solution begins: later, its end is likelier.
        """
        answers, choices = [answer], []
        between = "" if self._exact else self._prompt.delimiter
        for choice in answer.choices:
            whole = choice
            for _ in range(_MOST_STOPS):
                left = sampling.max_tokens - (whole.tokens or 0)
                if not self._goes_on(whole, chain) or left < 1:
                    break
                whole = up_to_last_token(whole) if self._exact else whole
                blank = Step(whole.text + between, "step", whole.tokens, whole.token_ids)
                request = await self._request(
                    chain.extend(blank), replace(sampling, max_tokens=left)
                )
                answers.append(await self._complete(request, 1, None))
                whole = joined(whole, answers[-1].choices[0], between)
            choices.append(whole)
        return Answer(
            choices=tuple(choices),
            prompt_tokens=total(answer.prompt_tokens for answer in answers),
            cached_tokens=total(answer.cached_tokens for answer in answers),
        )

    def _goes_on(self, choice: CompletionChoice, chain: Chain) -> bool:
        """Whether a step was stopped before it has text, in a code block or in mid-sentence."""
        if not ended_by(choice, self._stops):
            return False
        text = choice.text if self._exact else choice.text + self._prompt.delimiter
        if first_end(chain.ahead + text, self._prompt.delimiter) is not None:
            return False
        return choice.says_why or bool(choice.text.strip()) or not chain.steps

    @property
    def _stops(self) -> tuple[str, ...]:
        """What may end a step. Where a heading is not among what is sent, a text holds the next."""
        return step_stops(self._prompt.delimiter)[: None if self._exact else 1]

    async def _singles(
        self, request: Mapping[str, Any], indices: range, seed: int | None
    ) -> list[Answer]:
        """Requests of one choice each; if one fails, the others are cancelled."""
        tasks = [
            asyncio.create_task(self._complete(request, 1, None if seed is None else seed + index))
            for index in indices
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _read(self, answer: Mapping[str, Any]) -> Answer:
        return parse_answer(answer, chat=isinstance(self._renderer, ServerChat))

    async def _probe(self) -> str | None:
        """Why a problem cannot be solved in this way; None if it can.

        Raises:
            HTTPFailure: the key is wrong.
            PromptTooLong: the shortest problem does not fit.
            EngineError: the server fails.
        """
        try:
            request = await self._request(
                Chain(Problem("probe", "1 + 1 = ?")), Sampling(temperature=0.0, max_tokens=1)
            )
            raw = await self._pool.call("POST", self._renderer.path, {**request, "n": 1})
        except HTTPFailure as failure:
            if failure.denied:
                raise
            return str(failure)
        except PromptTooLong:
            raise
        except InputError as error:
            return str(error)
        try:
            answer = self._read(raw)
        except EngineError as error:
            return str(error)
        if self._exact and answer.choices[0].token_ids is None:
            return "it returns no token ids"
        return None


def _by_server(pool: EndpointPool, card: Mapping[str, Any], prompt: Prompt) -> Iterator[Renderer]:
    """Ways to have a server render, the best first."""
    yield ServerTokens(pool, card["id"], prompt)
    if card.get("owned_by") == _LLAMA:
        yield ServerText(pool, card["id"], prompt)
    yield ServerChat(pool, card["id"], prompt)


async def _context(pool: EndpointPool, card: Mapping[str, Any]) -> int | None:
    """Tokens of prompt and answer together, by the model's card or llama.cpp's `/props`."""
    context = card.get("max_model_len")
    if context is None and card.get("owned_by") == _LLAMA:
        settings = (await pool.call("GET", "props")).get("default_generation_settings")
        context = settings.get("n_ctx") if isinstance(settings, dict) else None
    return context if type(context) is int and context > 0 else None


def _choose(answer: Mapping[str, Any], wanted: str | None) -> Mapping[str, Any]:
    """The entry of `/v1/models` for the wanted model, or for the only one."""
    data = answer.get("data")
    cards = {
        card["id"]: card
        for card in (data if isinstance(data, list) else [])
        if isinstance(card, dict) and isinstance(card.get("id"), str)
    }
    if wanted in cards:
        return cards[wanted]
    served = ", ".join(cards) or "none"
    if wanted is None:
        if len(cards) == 1:
            return next(iter(cards.values()))
        raise InputError(f"name the model to use; the server has: {served}")
    near = get_close_matches(wanted, cards, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"the server has no model {wanted!r}; {hint}It has: {served}")


def _local_tokenizer(tokenizer: str, prompt: Prompt) -> ChainEncoder:
    require("a local tokenizer", "local", "transformers")
    from transformers import AutoTokenizer

    try:
        return ChainEncoder(AutoTokenizer.from_pretrained(tokenizer), prompt)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer at {tokenizer!r}: {error}") from error
