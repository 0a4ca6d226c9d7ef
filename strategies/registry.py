"""Every strategy by its name."""

from __future__ import annotations

from strategies.base import Strategy
from strategies.beam_search import BeamSearch, Lookahead
from strategies.best_of_n import BestOfN
from strategies.dvts import DVTS

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (BestOfN, BeamSearch, DVTS, Lookahead)
}
