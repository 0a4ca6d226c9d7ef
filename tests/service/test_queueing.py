"""Who gets room for a search, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from router.models.errors import InputError
from router.service.errors import ServiceError
from router.service.keys import ApiKeys
from router.service.metrics import Metrics
from router.service.queueing import Queue
from router.service.settings import Settings
from tests.service.serving import served, until

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
KEYS = ApiKeys.parse(f"{ALICE},{BOB}", "here")


class Crowd:
    """Searches that hold their room until they are told to end. log: who got in, in order."""

    def __init__(self, **settings: object) -> None:
        self.queue = Queue(Settings(**settings), Metrics())  # type: ignore[arg-type]
        self.log: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, generations: int = 1, key: str | None = None) -> None:
        """A search comes, and gets as far as it can."""
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._search(name, generations, key))
        await _settle()

    async def end(self, name: str) -> None:
        """A search ends; the log then holds whoever got its room."""
        self._ends[name].set()
        await self._tasks[name]
        await _settle()

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await _settle()

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _search(self, name: str, generations: int, key: str | None) -> None:
        async with self.queue.place(key, generations, time.monotonic() + 60):
            self.log.append(name)
            await self._ends[name].wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(**settings: object) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        made = Crowd(**settings)
        stack.push_async_callback(made.aclose)
        yield made


async def test_what_runs_is_bounded_by_its_generations() -> None:
    async with crowd(generations=10) as searches:
        for name, size in (("a", 6), ("b", 4), ("c", 4), ("d", 1)):
            await searches.come(name, size)
        assert searches.log == ["a", "b"]
        await searches.end("b")
        assert searches.log == ["a", "b", "c"]
        await searches.end("c")
        assert searches.log == ["a", "b", "c", "d"]


async def test_searches_are_still_counted() -> None:
    async with crowd(running=2) as searches:
        for name in "abc":
            await searches.come(name)
        assert searches.log == ["a", "b"]


async def test_a_search_that_is_larger_than_all_of_it_runs_alone() -> None:
    async with crowd(generations=10) as searches:
        await searches.come("small", 1)
        await searches.come("large", 200)
        await searches.come("late", 1)
        assert searches.log == ["small"]  # nobody overtakes: it would wait for ever
        await searches.end("small")
        assert searches.log == ["small", "large"]
        await searches.end("large")
        assert searches.log == ["small", "large", "late"]


async def test_who_leaves_holds_up_nobody() -> None:
    async with crowd(generations=10) as searches:
        await searches.come("a", 6)
        await searches.come("b", 6)
        await searches.come("c", 4)
        assert searches.log == ["a"]
        await searches.leave("b")
        assert searches.log == ["a", "c"]
        await searches.leave("a")
        await searches.come("d", 6)
        assert searches.log == ["a", "c", "d"]


async def test_keys_take_turns() -> None:
    async with crowd(keys=KEYS, running=1, key_share=1.0) as searches:
        for name in ("a1", "a2", "a3"):
            await searches.come(name, key="a")
        for name in ("b1", "b2"):
            await searches.come(name, key="b")
        for name in ("a1", "a2", "b1", "a3", "b2"):
            assert searches.log[-1] == name
            await searches.end(name)


async def test_a_key_holds_no_more_than_its_share_of_what_runs() -> None:
    async with crowd(keys=KEYS, running=4, generations=100) as searches:
        for name in ("a1", "a2", "a3"):
            await searches.come(name, key="a")
        assert searches.log == ["a1", "a2"]
        await searches.come("b1", 40, key="b")
        await searches.come("b2", 20, key="b")
        assert searches.log == ["a1", "a2", "b1"]
        await searches.end("a1")
        assert searches.log == ["a1", "a2", "b1", "a3"]


async def test_a_key_holds_no_more_than_its_share_of_what_waits() -> None:
    async with crowd(keys=KEYS, running=2, waiting=4) as searches:
        for name in ("a1", "a2", "a3"):
            await searches.come(name, key="a")
        with pytest.raises(ServiceError, match="2 requests of this key are waiting") as caught:
            async with searches.queue.place("a", 1, time.monotonic() + 60):
                pass
        assert caught.value.status == 429
        for name in ("b1", "b2", "b3"):
            await searches.come(name, key="b")
        assert searches.log == ["a1", "b1"]


async def test_one_key_alone_may_hold_everything() -> None:
    one = ApiKeys.parse(ALICE, "here")
    async with crowd(keys=one, running=2) as searches:
        await searches.come("a1", key="a")
        await searches.come("a2", key="a")
        assert searches.log == ["a1", "a2"]


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        Settings(key_share=share)


def test_one_key_does_not_lock_out_another() -> None:
    with served(settings=Settings(keys=KEYS, running=2, waiting=2)) as service:
        service.engine.hold()
        answers: list[httpx.Response] = []

        def ask(key: str) -> None:
            headers = {"Authorization": f"Bearer {key}"}
            answers.append(service.chat(router={"budget": 8}, headers=headers))

        threads = [threading.Thread(target=ask, args=(ALICE,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        # One runs, one waits, and two are told so.
        until(lambda: [answer.status_code for answer in answers] == [429, 429])
        assert service.metric("router_num_generations_running") == 8
        threads.append(threading.Thread(target=ask, args=(BOB,)))
        threads[-1].start()
        until(lambda: service.metric("router_num_requests_running") == 2)
        assert service.metric("router_num_generations_running") == 16
        assert service.metric("router_num_requests_waiting") == 1
        service.engine.go_on()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429]
        assert service.metric("router_num_generations_running") == 0
