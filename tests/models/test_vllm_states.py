"""What is kept of vLLM's hidden states and how it is fetched, without vLLM."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from router.models.errors import EngineError
from router.models.generators.vllm_states import MAX_OTHERS, States, StateTap

HIDDEN = 4


class Layer(nn.Module):
    """Gives its input back in two parts, as vLLM's decoder layers do."""

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return states * 0.25, states * 0.75


class Worker(StateTap):
    """A worker whose model runner feeds whatever a test says."""

    def __init__(self) -> None:
        layers = nn.ModuleList([Layer(), Layer()])
        self.model_runner = SimpleNamespace(
            get_model=lambda: SimpleNamespace(model=SimpleNamespace(layers=layers)),
            input_batch=SimpleNamespace(req_ids=[], num_computed_tokens_cpu=np.zeros(0, int)),
            query_start_loc=SimpleNamespace(np=np.zeros(1, int)),
        )
        self.calls = 0
        self.tap_layer(2)

    def feed(self, **tokens: tuple[int, int]) -> Tensor:
        """One pass. tokens: for each request how many are computed already, and how many are fed.

        Returns what the layers gave, (tokens, HIDDEN).
        """
        runner = self.model_runner
        done, counts = zip(*tokens.values(), strict=True)
        runner.input_batch.req_ids = [f"{name}-1a2b3c4d" for name in tokens]
        runner.input_batch.num_computed_tokens_cpu = np.array([*done, 99, 99])
        runner.query_start_loc.np = np.array([0, *np.cumsum(counts), 99, 99])
        states = torch.randn(sum(counts), HIDDEN)
        for layer in runner.get_model().model.layers:
            layer(states)
        return states

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
        self.calls += 1
        return [getattr(self, method)(*args)]


def rows(taken: list[bytes | None]) -> list[Any]:
    return [None if one is None else np.frombuffer(one, "f4").tolist() for one in taken]


def test_a_position_is_that_of_the_last_token_fed() -> None:
    worker = Worker()
    prompt = worker.feed(a=(0, 5), b=(32, 3))
    step = worker.feed(b=(35, 1), a=(5, 1))
    [a, b] = worker.take_states([(["a"], [4, 5, 6]), (["b"], [34, 35, 33])])
    assert rows(a) == [prompt[4].tolist(), step[1].tolist(), None]
    assert rows(b) == [prompt[7].tolist(), step[0].tolist(), None]


def test_requests_that_go_on_from_each_other_are_one() -> None:
    worker = Worker()
    first = worker.feed(a=(0, 3))
    second = worker.feed(a=(3, 1))
    third = worker.feed(b=(0, 5))
    taken = worker.take_states([(["a", "b"], [2, 3, 4, 5])])[0]
    assert rows(taken) == [first[2].tolist(), second[0].tolist(), third[4].tolist(), None]
    assert worker.take_states([(["a", "b"], [2, 4])]) == [[None, None]]


def test_states_are_taken_once_and_of_known_requests() -> None:
    worker = Worker()
    worker.feed(a=(0, 1))
    assert worker.take_states([(["b"], [0])]) == [[None]]
    assert worker.take_states([(["a"], [0])]) != [[None]]
    assert worker.take_states([(["a"], [0])]) == [[None]]


def test_a_dry_run_keeps_nothing() -> None:
    worker = Worker()
    worker.model_runner.get_model().model.layers[1](torch.zeros(3, HIDDEN))
    assert not worker._kept


def test_what_runs_stays_however_many_are_never_fetched() -> None:
    worker = Worker()
    first = worker.feed(long=(0, 1))
    for index in range(3 * MAX_OTHERS):
        worker.feed(long=(index + 1, 1), **{f"cancelled{index}": (0, 1)})
    assert len(worker._kept) <= 2 + MAX_OTHERS
    assert rows(worker.take_states([(["long"], [0])])[0]) == [first[0].tolist()]


async def test_one_call_serves_all_that_wait() -> None:
    worker = Worker()
    states: Any = States(worker, 1)
    fed = worker.feed(a=(0, 1), b=(0, 1), c=(0, 1))
    taken = await asyncio.gather(*(states.take([name], [0]) for name in "abc"))
    assert worker.calls == 1
    assert [state.tolist() for (state,) in taken] == fed.tolist()
    assert await states.take(["a"], [0]) == [None]


async def test_a_call_that_was_cancelled_does_not_hurt_its_neighbours() -> None:
    worker = Worker()
    states: Any = States(worker, 1)
    fed = worker.feed(a=(0, 1), b=(0, 1))
    calls = [asyncio.create_task(states.take([name], [0])) for name in "ab"]
    await asyncio.sleep(0)
    calls[0].cancel()
    [state] = await calls[1]
    assert state.tolist() == fed[1].tolist()


async def test_a_dead_worker_is_an_engine_error_for_all_that_wait() -> None:
    class Dead:
        async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
            raise RuntimeError("worker died")

    states: Any = States(Dead(), 1)  # type: ignore[arg-type]
    found = await asyncio.gather(*(states.take([n], [0]) for n in "ab"), return_exceptions=True)
    assert all(isinstance(error, EngineError) for error in found)
    with pytest.raises(EngineError, match=r"layer 3.*worker died"):
        await States.of_layer(Dead(), 3)  # type: ignore[arg-type]
