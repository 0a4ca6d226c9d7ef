"""The worker that a `vllm serve` on a CPU is told to have, to draw tokens as our own engines do.

`vllm serve … --worker-cls router.models.generators.vllm_served_worker.ServedWorker`
"""

from __future__ import annotations

import logging
from typing import Any

from router.models.generators.vllm_draws import FastDraws
from router.models.runtime.vllm_internals import cpu_worker

logger = logging.getLogger("router")


class ServedWorker(FastDraws, cpu_worker()):  # type: ignore[misc]  # vLLM has no types here
    """vLLM's own, drawing by inversion once the model is there."""

    def load_model(self, **kwargs: Any) -> None:
        super().load_model(**kwargs)
        if not self.draw_by_inversion():
            logger.warning("this vLLM's sampler is not known, so it draws tokens slowly")
