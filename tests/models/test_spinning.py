"""vLLM's processes wait for each other without taking the processor, and without missing a word."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("vllm")

import zmq
from vllm.distributed.device_communicators import shm_broadcast
from vllm.utils.network_utils import get_open_zmq_ipc_path

from models.runtime.spinning import stop_spinning


def test_a_reader_naps_and_needs_no_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shm_broadcast, "sched_yield", shm_broadcast.sched_yield)  # put back after
    stop_spinning()
    with zmq.Context() as context:
        silent = get_open_zmq_ipc_path()
        reader = shm_broadcast.SpinCondition(True, context, silent)
        reader.record_read()
        looks, started, spent = 0, time.monotonic(), time.thread_time()
        while time.monotonic() - started < 0.5:
            reader.wait(timeout_ms=5000)
            looks += 1
        spent = time.thread_time() - spent
        context.destroy(linger=0)
    assert looks > 50  # waiting for an announcement, it looks once
    assert spent < 0.2  # spinning takes all of the half second
