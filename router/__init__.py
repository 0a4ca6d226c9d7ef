"""The router: decides, per problem and budget, which search to run, and runs it.

Everything that somebody needs who uses it, or brings a part of their own, is a name of this
package: see `docs/extending.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from router.bundle import Bundle as Bundle
    from router.choosing import ByTable as ByTable
    from router.choosing import Chooser as Chooser
    from router.core import Router as Router
    from router.difficulty.base import Estimator as Estimator
    from router.difficulty.base import Evidence as Evidence
    from router.difficulty.base import Needs as Needs
    from router.models.base import Generator as Generator
    from router.models.base import GeneratorInfo as GeneratorInfo
    from router.models.base import Prefiller as Prefiller
    from router.models.base import Verifier as Verifier
    from router.models.base import VerifierInfo as VerifierInfo
    from router.models.errors import BudgetExhausted as BudgetExhausted
    from router.models.errors import EngineError as EngineError
    from router.models.errors import InputError as InputError
    from router.models.errors import ModelError as ModelError
    from router.models.errors import NoCandidates as NoCandidates
    from router.models.errors import NotFinite as NotFinite
    from router.models.errors import NotInstalled as NotInstalled
    from router.models.errors import PromptTooLong as PromptTooLong
    from router.models.errors import RouterError as RouterError
    from router.models.errors import Unscorable as Unscorable
    from router.models.errors import VerifierError as VerifierError
    from router.models.types import AskedSampling as AskedSampling
    from router.models.types import Chain as Chain
    from router.models.types import Continuation as Continuation
    from router.models.types import Message as Message
    from router.models.types import Prefill as Prefill
    from router.models.types import Problem as Problem
    from router.models.types import Sampled as Sampled
    from router.models.types import Sampling as Sampling
    from router.models.types import Scored as Scored
    from router.models.types import Step as Step
    from router.models.usage import Price as Price
    from router.models.usage import Usage as Usage
    from router.pairs import Pair as Pair
    from router.records import Considered as Considered
    from router.records import Decision as Decision
    from router.records import Failure as Failure
    from router.records import Finished as Finished
    from router.records import Solution as Solution
    from router.strategies.base import Candidate as Candidate
    from router.strategies.base import Strategy as Strategy
    from router.strategies.budget import Budget as Budget
    from router.strategies.registry import parse_strategy as parse_strategy
    from router.strategies.registry import strategy_names as strategy_names
    from router.strategies.scoring import candidates as candidates
    from router.strategies.scoring import step_values as step_values
    from router.strategies.search import Search as Search
    from router.strategies.selection import Vote as Vote
    from router.strategies.tasks.base import Grouping as Grouping
    from router.strategies.tasks.base import Task as Task
    from router.strategies.tasks.clock import Clock as Clock
    from router.strategies.trace import Node as Node
    from router.strategies.trace import Trace as Trace
    from router.table import Table as Table

_PUBLIC: Final = {
    "AskedSampling": "router.models.types",
    "Budget": "router.strategies.budget",
    "BudgetExhausted": "router.models.errors",
    "Bundle": "router.bundle",
    "ByTable": "router.choosing",
    "Candidate": "router.strategies.base",
    "Chain": "router.models.types",
    "Chooser": "router.choosing",
    "Clock": "router.strategies.tasks.clock",
    "Considered": "router.records",
    "Continuation": "router.models.types",
    "Decision": "router.records",
    "EngineError": "router.models.errors",
    "Estimator": "router.difficulty.base",
    "Evidence": "router.difficulty.base",
    "Failure": "router.records",
    "Finished": "router.records",
    "Generator": "router.models.base",
    "GeneratorInfo": "router.models.base",
    "Grouping": "router.strategies.tasks.base",
    "InputError": "router.models.errors",
    "Message": "router.models.types",
    "ModelError": "router.models.errors",
    "Needs": "router.difficulty.base",
    "NoCandidates": "router.models.errors",
    "Node": "router.strategies.trace",
    "NotFinite": "router.models.errors",
    "NotInstalled": "router.models.errors",
    "Pair": "router.pairs",
    "Prefill": "router.models.types",
    "Prefiller": "router.models.base",
    "Price": "router.models.usage",
    "Problem": "router.models.types",
    "PromptTooLong": "router.models.errors",
    "Router": "router.core",
    "RouterError": "router.models.errors",
    "Sampled": "router.models.types",
    "Sampling": "router.models.types",
    "Scored": "router.models.types",
    "Search": "router.strategies.search",
    "Solution": "router.records",
    "Step": "router.models.types",
    "Strategy": "router.strategies.base",
    "Table": "router.table",
    "Task": "router.strategies.tasks.base",
    "Trace": "router.strategies.trace",
    "Unscorable": "router.models.errors",
    "Usage": "router.models.usage",
    "Verifier": "router.models.base",
    "VerifierError": "router.models.errors",
    "VerifierInfo": "router.models.base",
    "Vote": "router.strategies.selection",
    "candidates": "router.strategies.scoring",
    "parse_strategy": "router.strategies.registry",
    "step_values": "router.strategies.scoring",
    "strategy_names": "router.strategies.registry",
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
