"""What joins vLLM's worker process (the engine argument `worker_extension_cls`)."""

from __future__ import annotations

from router.models.generators.vllm_draws import FastDraws
from router.models.generators.vllm_states import StateTap


class WorkerExtension(StateTap, FastDraws):
    """Becomes a base class of vLLM's worker."""


EXTENSION = f"{__name__}.{WorkerExtension.__name__}"
