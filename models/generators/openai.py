"""A generator on servers with the OpenAI completions API (`/v1/completions`).

Two ways to speak, found out once at load:

- exact: the server returns token ids (vLLM). Prompts are token ids, so that a chain's prompt
  starts with its parent's. The server's `/tokenize` renders problems, or a local tokenizer.
- text: any other server. Prompts are text, rendered with a local tokenizer. Such a server does
  not say whether a stop string or the model's own end came: see `completions.text_continuation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

import httpx

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError
from router.models.extras import require
from router.models.generators.completions import (
    Answer,
    exact_continuation,
    joined,
    parse_answer,
    text_continuation,
    total,
)
from router.models.generators.endpoints import EndpointPool, HTTPFailure
from router.models.prompts import Prompt
from router.models.tokens import ChainEncoder, room
from router.models.types import Chain, Problem, Sampled, Sampling

_RECENT_PROBLEMS = 1024

_EXACT: Mapping[str, Any] = {
    "return_token_ids": True,
    "include_stop_str_in_output": True,
    "logprobs": 0,
    # vLLM's server fills these from the model's generation config unless they are sent.
    "top_k": 0,
    "repetition_penalty": 1.0,
}
"""Fields of exact requests beyond those of the common API."""


class _ServerTokenizer:
    """Renders problems by a server's `/tokenize` (vLLM)."""

    def __init__(self, pool: EndpointPool, model: str, prompt: Prompt) -> None:
        self._pool = pool
        self._model = model
        self._prompt = prompt
        self._rendered: dict[Problem, tuple[int, ...]] = {}

    async def chain_ids(self, chain: Chain) -> list[int]:
        """Prompt token ids that continue `chain`, as `ChainEncoder.chain_ids`."""
        known = self._rendered.get(chain.problem)
        if known is None:
            turns = [asdict(turn) for turn in self._prompt.messages(chain.problem)]
            known = await self._tokenize({"messages": turns, "add_generation_prompt": True})
            while len(self._rendered) >= _RECENT_PROBLEMS:
                self._rendered.pop(next(iter(self._rendered)))
            self._rendered[chain.problem] = known
        ids = list(known)
        for step in chain.steps:
            if step.token_ids is None:
                ids += await self._tokenize({"prompt": step.text, "add_special_tokens": False})
            else:
                ids += step.token_ids
        return ids

    async def _tokenize(self, body: Mapping[str, Any]) -> tuple[int, ...]:
        answer = await self._pool.call("POST", "tokenize", {"model": self._model, **body})
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not tokens:
            raise InputError(
                f"the server's /tokenize answered no tokens ({str(answer)[:80]}); give the "
                "model's tokenizer (a directory or a hub id)"
            )
        return tuple(tokens)


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
        renderer: ChainEncoder | _ServerTokenizer,
        *,
        exact: bool,
    ) -> None:
        self._pool = pool
        self._prompt = prompt
        self._info = info
        self._renderer = renderer
        self._exact = exact

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
        tokenizer: directory or hub id, for servers that cannot render a chat (all but vLLM).
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
                context=card.get("max_model_len"),
                seeds=seeds,
            )
            renderer = (
                await asyncio.to_thread(_local_tokenizer, tokenizer, prompt)
                if tokenizer
                else _ServerTokenizer(pool, info.model, prompt)
            )
            generator = cls(pool, prompt, info, renderer, exact=True)
            if not await generator._probe():
                if not isinstance(renderer, ChainEncoder):
                    raise InputError(
                        f"the server of {info.model!r} cannot render a chat into token ids and "
                        "return them; give the model's tokenizer (a directory or a hub id)"
                    )
                generator = cls(pool, prompt, info, renderer, exact=False)
        except BaseException:
            await pool.aclose()
            raise
        return generator

    @property
    def info(self) -> GeneratorInfo:
        return self._info

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
        request = await self._request(chain, sampling)
        answers = [await self._complete(request, n, sampling.seed)]
        if missing := n - len(answers[0].choices):
            # Servers that ignore n (llama.cpp, Ollama) give one choice.
            answers += await self._singles(request, missing, sampling.seed)
        if self._exact and sampling.until == "step":
            answers = [await self._with_content(request, answer) for answer in answers]
        read = exact_continuation if self._exact else text_continuation
        return Sampled(
            continuations=tuple(
                read(choice, sampling, self._prompt.delimiter)
                for answer in answers
                for choice in answer.choices
            ),
            prompt_tokens=total(answer.prompt_tokens for answer in answers),
            cached_tokens=total(answer.cached_tokens for answer in answers),
        )

    async def _request(self, chain: Chain, sampling: Sampling) -> dict[str, Any]:
        """The body of a completion request, without n and seed."""
        delimiter = [self._prompt.delimiter] if sampling.until == "step" else []
        body: dict[str, Any] = {
            "model": self._info.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": [*delimiter, *sampling.stop],
        }
        if not self._exact:
            assert isinstance(self._renderer, ChainEncoder)
            return body | {"prompt": _prompt_text(self._renderer, chain)}
        ids = self._renderer.chain_ids(chain)
        prompt = ids if isinstance(ids, list) else await ids
        if self._info.context is not None:
            body["max_tokens"] = room(len(prompt), self._info.context, sampling.max_tokens)
        return body | {"prompt": prompt, **_EXACT}

    async def _complete(self, request: Mapping[str, Any], n: int, seed: int | None) -> Answer:
        body = {**request, "n": n} if seed is None else {**request, "n": n, "seed": seed}
        answer = parse_answer(await self._pool.call("POST", "v1/completions", body))
        if len(answer.choices) > n:
            raise EngineError(f"the server answered {len(answer.choices)} choices for n={n}")
        return answer

    async def _with_content(self, request: Mapping[str, Any], answer: Answer) -> Answer:
        """Sample on where a model began with the delimiter itself: no step is blank."""
        answers, choices = [answer], []
        for choice in answer.choices:
            whole = choice
            while (
                whole.stop_reason == self._prompt.delimiter
                and not whole.text.strip()
                and (left := request["max_tokens"] - (whole.tokens or 0)) > 0
            ):
                prompt = [*request["prompt"], *(whole.token_ids or ())]
                longer = {**request, "prompt": prompt, "max_tokens": left}
                answers.append(await self._complete(longer, 1, None))
                whole = joined(whole, answers[-1].choices[0])
            choices.append(whole)
        return Answer(
            choices=tuple(choices),
            prompt_tokens=total(answer.prompt_tokens for answer in answers),
            cached_tokens=total(answer.cached_tokens for answer in answers),
        )

    async def _singles(
        self, request: Mapping[str, Any], count: int, seed: int | None
    ) -> list[Answer]:
        """`count` requests of one choice each; if one fails, the others are cancelled."""
        tasks = [
            asyncio.create_task(
                self._complete(request, 1, None if seed is None else seed + 1 + index)
            )
            for index in range(count)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self) -> bool:
        """Whether a problem can be sent as token ids, and its solution comes back as such."""
        try:
            request = await self._request(
                Chain(Problem("probe", "1 + 1 = ?")), Sampling(temperature=0.0, max_tokens=1)
            )
            answer = await self._complete(request, 1, None)
        except HTTPFailure as failure:
            if failure.status in (401, 403):
                raise
            return False
        return answer.choices[0].token_ids is not None


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


def _prompt_text(encoder: ChainEncoder, chain: Chain) -> str:
    """Rendered problem and the chain's text. The server adds the begin-of-text token itself."""
    tokenizer = encoder.tokenizer
    rendered: str = tokenizer.decode(
        list(encoder.prompt_ids(chain.problem)),
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return rendered.removeprefix(tokenizer.bos_token or "") + chain.text
