"""What the start of vLLM keeps from the terminal, and what not."""

from __future__ import annotations

import logging

import pytest

from router.models.runtime.vllm_process import _useful

NOISE = "Triton is installed, but doesn't include CPU backend. Disabling Triton."


@pytest.mark.parametrize(("text", "kept"), [(NOISE, False), ("Triton is broken: %s", True)])
def test_only_a_triton_that_is_not_for_cpus_goes_unsaid(text: str, kept: bool) -> None:
    record = logging.LogRecord("vllm", logging.WARNING, "importing.py", 1, text, (), None)
    assert _useful(record) is kept
