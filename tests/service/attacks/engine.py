"""An engine that says what its prompt says, so that whoever asks chooses the answer.

    python -m tests.service.attacks.engine PORT

`RANDOM` in a prompt becomes another number in each sample, `OPEN` 100 kB of boxes without an end.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from router.models.fakes import FakeGenerator
from router.models.types import Chain, FinishReason, Sampling
from tests.completions_server import Handler, Server

CONTEXT = 1 << 20


class Parrot(Handler):
    """Serves the parrot. Its prompts, of one token a byte, may be long."""

    generator = FakeGenerator(lambda *asked: parrot(*asked), context=CONTEXT)
    log = Path("/dev/null")

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "parrot", "max_model_len": CONTEXT}]})


def parrot(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
    """The problem, as a solution."""
    number = str(random.randint(10, 10**9))  # the server seeds `rng` alike for each call
    text = chain.problem.text.replace("RANDOM", number)
    return text.replace("OPEN", "\\boxed{" * 14_000), "stop"


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Parrot).serve_forever()
