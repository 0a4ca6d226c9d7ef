"""How the suites run: async tests in plain pytest, on models that are opened once a class."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Model(Protocol):
    """What can be closed."""

    async def aclose(self) -> None: ...


M = TypeVar("M", bound=Model)


class Suite:
    """Tests that run on an event loop of their class's own.

    patience: seconds that one test may take before it fails.
    """

    patience: ClassVar[float] = 60.0
    _runner: ClassVar[asyncio.Runner | None] = None

    @classmethod
    def run(cls, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the class's loop, which an engine may be bound to."""
        if cls.__dict__.get("_runner") is None:
            cls._runner = asyncio.Runner()
        assert cls._runner is not None
        return cls._runner.run(work)

    @classmethod
    def teardown_class(cls) -> None:
        """Close the loop."""
        if cls.__dict__.get("_runner") is not None:
            assert cls._runner is not None
            cls._runner.close()
            cls._runner = None

    async def prepare(self) -> None:
        """What comes before each test, and takes as long as it takes."""


class ModelSuite(Suite, Generic[M]):
    """Tests of one model, opened before the first of them and closed after the last."""

    _model: ClassVar[Any] = None

    async def open(self) -> M:
        """The model to test; yours to write."""
        raise NotImplementedError(f"{type(self).__name__} must define `async def open(self)`")

    @property
    def model(self) -> M:
        """The model, open."""
        model: M = type(self).__dict__["_model"]
        return model

    async def prepare(self) -> None:
        """Open the model unless it is open."""
        if type(self).__dict__.get("_model") is None:
            type(self)._model = await self.open()

    @classmethod
    def teardown_class(cls) -> None:
        """Close the model, and the loop."""
        model = cls.__dict__.get("_model")
        if model is not None:
            cls._model = None
            cls.run(model.aclose())
        super().teardown_class()


S = TypeVar("S", bound=Suite)


def on_loop(
    test: Callable[Concatenate[S, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[S, P], None]:
    """An async test as a plain one, which fails where it would hang."""

    @functools.wraps(test)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.run(self.prepare())
        self.run(asyncio.wait_for(test(self, *args, **kwargs), self.patience))

    return run
