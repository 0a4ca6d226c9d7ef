"""Finds out which verifier `vllm serve` has, and opens it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router.models.base import Verifier
from router.models.errors import InputError, ModelError
from router.models.extras import require
from router.models.generators.endpoints import EndpointPool
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.verifiers.identity import Identity, identity_of, identity_of_head, is_marked
from router.models.verifiers.load import GeneratorStates
from router.models.verifiers.prm import get_format
from router.models.verifiers.served import ServedVerifier, served_models
from router.models.verifiers.trained_head import is_head, shipped_heads
from router.models.weights.embedded import DEFAULT, EMBEDDED
from router.models.weights.find import find_model

logger = logging.getLogger("router")


async def load_served_verifier(
    ref: str | None,
    endpoints: Sequence[str],
    *,
    key: str | None = None,
    format: str | None = None,
    generator: GeneratorStates = GeneratorStates(),
) -> Verifier:
    """A verifier that servers run, `vllm serve` each; nothing of it is loaded here but a tokenizer.

    ref: what they serve, as for `load_verifier`; None is what they say that it is.
    endpoints: base URLs, with or without `/v1`. key: their API key.
    format, generator: as for `load_verifier`.

    Raises:
        InputError: a format that is unknown or that vLLM cannot serve, or nothing tells it; or the
            servers have another trained head.
        ModelError: no tokenizer, or one that does not fit.
        VerifierError: no server answers, or not as the format needs it.
    """
    require("a verifier behind a server", "served", "jinja2", "transformers")
    pool = EndpointPool(endpoints, api_key=key)
    try:
        cards = await served_models(pool)
        named = _said(cards) if ref is None else ref
        identity, home = await asyncio.to_thread(_who, named, cards, format, generator)
        prompt = get_prompt(generator.prompt or identity.prompt)
        encoder = ChainEncoder(await asyncio.to_thread(_tokenizer, home), prompt)
        prm, context = get_format(identity.format), cards[0]["max_model_len"]
        verifier = await ServedVerifier.load(pool, encoder, prm, identity.info(None), context)
    except BaseException:
        await pool.aclose()
        raise
    logger.info("verifier: %s on %s, format %s", identity.name, pool, identity.format)
    return verifier


def _said(cards: Sequence[Mapping[str, Any]]) -> str:
    """What to call the model that servers say they have: a head of ours, or where it comes from."""
    heads = {identity_of_head(head).name: str(head) for head in shipped_heads()}
    known = next((heads[name] for name in _names(cards) if name in heads), None)
    return known or str(cards[0].get("root") or cards[0]["id"])


def _who(
    ref: str, cards: Sequence[Mapping[str, Any]], format: str | None, generator: GeneratorStates
) -> tuple[Identity, str]:
    """Who is served, and where its tokenizer is (a directory or a hub id)."""
    home = ref
    if is_head(Path(ref)):
        identity = identity_of_head(Path(ref))
        if format not in (None, identity.format):
            raise InputError(f"{ref} was trained for format {identity.format!r}, not {format!r}")
        named = generator.model or DEFAULT.name
        home = str(find_model(named)) if named in EMBEDDED else named
    else:
        identity = identity_of(ref, format)
    ours = home != ref or is_marked(Path(ref))
    if ours and identity.name not in _names(cards) and ref != cards[0].get("root"):
        raise InputError(
            f"the verifier's server has {cards[0]['id']!r}, and {ref} is {identity.name!r}: a head "
            f"reads no other's states; if that is what it serves, start it with "
            f"--served-model-name {identity.name}"
        )
    return identity, home


def _names(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names of what is served: of the models, and of where they come from."""
    return [Path(str(card.get(key))).name for card in cards for key in ("id", "root")]


def _tokenizer(home: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(home)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no tokenizer at {home!r}: {error}; --verifier names what the verifier's server has: "
            "a hub id, or a directory such as `router verifier export` writes"
        ) from error
