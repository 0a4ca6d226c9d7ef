"""The router: decides, per problem and budget, which search to run, and runs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from router.core import Router as Router
    from router.models.errors import RouterError as RouterError
    from router.models.types import AskedSampling as AskedSampling
    from router.models.types import Problem as Problem
    from router.models.types import Sampling as Sampling
    from router.models.usage import Usage as Usage
    from router.records import Decision as Decision
    from router.records import Failure as Failure
    from router.records import Solution as Solution
    from router.strategies.budget import Budget as Budget

_PUBLIC: Final = {
    "AskedSampling": "router.models.types",
    "Budget": "router.strategies.budget",
    "Decision": "router.records",
    "Failure": "router.records",
    "Problem": "router.models.types",
    "Router": "router.core",
    "RouterError": "router.models.errors",
    "Sampling": "router.models.types",
    "Solution": "router.records",
    "Usage": "router.models.usage",
}
"""Where each public name is; imported when it is first asked for, so that a command's help, or a
worker that needs one engine, imports nothing else."""

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'router' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
