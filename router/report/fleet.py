"""The models of a fleet, each alone at equal cost, as a section of a page."""

from __future__ import annotations

import html

from router.evaluation.records import Evaluation
from router.evaluation.summary import percent, points
from router.report.page import section, table


def versus(evaluation: Evaluation) -> str:
    """Compute or parameters: empty where there is one model."""
    if not evaluation.versus:
        return ""
    rows = [
        (
            str(one.budget),
            "all" if one.level is None else str(one.level),
            html.escape(alone.model),
            html.escape(alone.strategy.in_words()),
            percent(alone.accuracy),
            points(alone.gain) if alone is not one.models[0] else "",
        )
        for one in evaluation.versus
        for alone in one.models
    ]
    sentence = (
        "Each model alone with the search that the fit found best for it, at equal cost; gains over"
        " the first in points."
    )
    head = ("N", "level", "model", "search", "solved", "gain")
    return section("Compute or parameters?", sentence, table(head, rows))
