"""The router: decides, per problem and budget, which search to run, and runs it."""

# ruff: noqa: E402
from pathlib import Path

from router._shadowing import check_siblings

check_siblings(Path(__file__).parent.parent)

from models.errors import RouterError
from models.types import Problem, Sampling
from router.core import Router
from router.records import Decision, Failure, Solution
from strategies.budget import Budget, Usage

__all__ = [
    "Budget",
    "Decision",
    "Failure",
    "Problem",
    "Router",
    "RouterError",
    "Sampling",
    "Solution",
    "Usage",
]
