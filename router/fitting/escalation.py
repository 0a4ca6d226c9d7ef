"""Strategies that escalate, measured from their stages.

What the second search finds does not depend on what the first has found, given the problem: so the
expected accuracy is that of the first where it convinces, and otherwise the second's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from router.fitting.replay import Judged
from router.strategies.base import Strategy
from router.strategies.escalate import Escalate

Floats = npt.NDArray[np.float64]

Verdicts = dict[tuple[int, Strategy], Judged]
"""How the first vote of a strategy is judged, by the problem's row."""


def with_stages(strategies: Sequence[Strategy]) -> list[Strategy]:
    """With the stages of those that escalate, each before what it is a stage of."""
    every: dict[Strategy, None] = {}
    for strategy in strategies:
        if isinstance(strategy, Escalate):
            every |= dict.fromkeys(with_stages([strategy.first, strategy.then]))
        every[strategy] = None
    return list(every)


def fill_escalations(
    arrays: Mapping[str, Floats], strategies: Sequence[Strategy], verdicts: Verdicts
) -> None:
    """Fill the columns of strategies that escalate, in place.

    arrays: `Measurements` by name, each of shape (problems, strategies). strategies: those inside
        of others come first.
    """
    index = {strategy: column for column, strategy in enumerate(strategies)}
    for strategy in strategies:
        if not isinstance(strategy, Escalate):
            continue
        own, one, two = index[strategy], index[strategy.first], index[strategy.then]
        rows = [row for row, judged in verdicts if judged == strategy]
        each = [verdicts[row, strategy] for row in rows]
        goes_on = 1 - np.array([verdict.stays for verdict in each])
        for name in ("accuracy", "coverage"):
            values, stays = arrays[name], np.array([getattr(verdict, name) for verdict in each])
            values[rows, own] = stays + goes_on * values[rows, two]
        error, errors = np.array([verdict.error for verdict in each]), arrays["error"]
        errors[rows, own] = np.hypot(error, goes_on * errors[rows, two])
        for name in ("generations", "tokens", "flops"):
            values = arrays[name]
            values[rows, own] = values[rows, one] + goes_on * values[rows, two]
