"""A real `vllm serve` on loopback, started as `docs/deploy.md` says for a CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

START_SECONDS = 600


class VllmServer:
    """Starts with it; use it as a context, and no process of it is left. `wait` until it answers.

    log: file for what it says. site: a directory for its PYTHONPATH.
    """

    def __init__(self, model: Path, log: Path, *args: str, site: Path | None = None) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        # What `vllm serve` runs; the CPU build installs that command under a name it cannot find.
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
            *("--max-num-seqs", "16", "--enforce-eager"),
            *("--distributed-executor-backend", "uni", *args),
        ]
        path = [str(site), os.environ.get("PYTHONPATH", "")] if site else []
        environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less to start
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
        if path:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def __enter__(self) -> VllmServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait(self) -> str:
        """Its URL, once it is healthy; fails the test where it does not start."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return self.url
            except httpx.TransportError:
                time.sleep(1)
        pytest.fail(f"vllm serve did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End all its processes with SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    """A port of loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
