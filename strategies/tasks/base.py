"""What a problem asks for: how to ask, and how answers are read, compared, grouped and graded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, TypeVar

from router.models.errors import InputError
from router.strategies.tasks.clock import REQUEST_SECONDS, Clock

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which answers are equal.

    representatives: for each answer the text that stands for its group; None stays None.
    unsure: pairs of different answers that could not be compared in time, and so count as unequal.
    """

    representatives: tuple[str | None, ...]
    unsure: int = 0


class Task(ABC):
    """One kind of problem. A new kind says how to `read` an answer and what is `normal`.

    id: its name in files and requests.
    ask: said after the problem's text, in the user's turn; empty for nothing.
    groups: whether answers can be equal. Where they cannot, only a verifier can choose.
    """

    id: ClassVar[str]
    ask: ClassVar[str] = ""
    groups: ClassVar[bool] = True

    @abstractmethod
    def read(self, text: str, truncated: bool = False) -> str | None:
        """The final answer that a solution states; None if it states none.

        truncated: a limit of tokens cut the text, perhaps inside a word, before its end.
        """

    def normal(self, answer: str) -> str:
        """The answer without what means nothing; answers with one normal form are equal."""
        return answer

    def same(self, a: str, b: str, clock: Clock) -> bool | None:
        """Whether two different normal forms, `a < b`, are equal all the same.

        None: that could not be told in time. What takes no time is told also when `clock` is over.
        """
        return False

    async def group(self, answers: Sequence[str | None], until: float | None = None) -> Grouping:
        """Put equal answers together: the transitive closure of equality.

        A representative is the commonest text of its group, then the shortest, then the first in
        the alphabet: the order of arrival is nothing.

        until: an instant of `time.monotonic()`, after which only what takes no time is compared;
            the work of comparing is `REQUEST_SECONDS` at most also without one. It ends with this
            call, cancelled or not.
        """
        if not self.groups or len(set(answers) - {None}) < 2:
            return Grouping(tuple(answers))
        return await _in_thread(lambda clock: self.group_sync(answers, clock), until)

    async def correct(
        self, answer: str | None, gold: str, until: float | None = None
    ) -> bool | None:
        """Whether an answer equals the gold one; None if that could not be told in time.

        until: as of `group`.
        """
        if answer is None:
            return False
        return await _in_thread(lambda clock: self.correct_sync(answer, gold, clock), until)

    def group_sync(self, answers: Sequence[str | None], clock: Clock | None = None) -> Grouping:
        """As `group`, in this thread, for as long as it takes or `clock` allows."""
        if not self.groups:
            return Grouping(tuple(answers))
        clock = clock or Clock()
        counts = Counter(answer for answer in answers if answer is not None)
        forms = {text: self.normal(text) for text in counts}
        root = {form: form for form in forms.values()}

        def find(form: str) -> str:
            while root[form] != form:
                form = root[form]
            return form

        unsure = []
        for a, b in combinations(sorted(root), 2):
            if find(a) != find(b):
                same = self.same(a, b, clock)
                if same:
                    root[find(b)] = find(a)
                elif same is None:
                    unsure.append((a, b))
        named: dict[str, str] = {}
        for text in sorted(counts, key=lambda text: (-counts[text], len(text), text)):
            named.setdefault(find(forms[text]), text)
        return Grouping(
            tuple(None if text is None else named[find(forms[text])] for text in answers),
            sum(find(a) != find(b) for a, b in unsure),
        )

    def correct_sync(
        self, answer: str | None, gold: str, clock: Clock | None = None
    ) -> bool | None:
        """As `correct`, in this thread, for as long as it takes or `clock` allows."""
        if answer is None:
            return False
        a, b = sorted((self.normal(answer), self.normal(gold)))
        return a == b or self.same(a, b, clock or Clock())


def check_task(task: Task, *, selects_by_score: bool, n: int) -> None:
    """Refuse to choose among `n` solutions by counting answers that are never equal.

    Raises:
        InputError: the task groups nothing, and no score selects.
    """
    if n > 1 and not task.groups and not selects_by_score:
        raise InputError(
            f"no two answers of a task {task.id!r} are equal, so a majority means nothing; take a"
            " strategy that selects by a verifier's scores, or n=1"
        )


async def _in_thread(work: Callable[[Clock], _T], until: float | None) -> _T:
    """The result of `work`, whose clock stops when this call ends, also by being cancelled.

    The thread is a daemon of its own: neither exit nor the loop's executor waits for it.
    """
    clock = Clock(until, REQUEST_SECONDS)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work(clock)
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="compare", daemon=True).start()
    try:
        return await future
    finally:
        clock.stop()
