"""Every strategy by its name."""

from __future__ import annotations

from router.strategies.base import Strategy
from router.strategies.beam_search import BeamSearch, Lookahead
from router.strategies.best_of_n import BestOfN
from router.strategies.dvts import DVTS

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (BestOfN, BeamSearch, DVTS, Lookahead)
}
