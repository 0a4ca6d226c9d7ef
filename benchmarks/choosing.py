"""What choosing earns on unseen problems: a fit on the committed rollouts, evaluated on others.

    python -m benchmarks.choosing --out benchmarks/results/choosing

Fits votes of every size at each temperature, fixed and anytime, on `rollouts/fit.jsonl.gz`, as
`router fit` does, and evaluates them on `rollouts/evaluate.jsonl.gz`, as `router evaluate
--fit-rollouts` does: the fit resampled together with the problems. Writes `evaluation.json`,
`evaluation.html` (as `router report`) and `averages.png`, the one picture: accuracy against average
cost. Searches with beams are left out, since they were run on few of the problems.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Final

from router.evaluation.evaluate import evaluate
from router.evaluation.study import Study
from router.evaluation.summary import averaged, headline, paired
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.problem_files import read_graded
from router.report import figures
from router.report.evaluation import average_lines, render
from router.report.page import render as drawn
from router.rollouts.export import open_rollouts

HERE: Final = Path(__file__).parent
BUDGETS: Final = (1, 2, 4, 8, 16)
COLD: Final = (1, 2, 4, 8)
"""At T = 0.3 there are eight samples of the problems that are evaluated."""

GREEDY: Final = "best_of_n(n=1, select=majority, temperature=0)"
LEADS: Final = {"weighted": (0.25, 0.5, 1, 2), "majority": (1, 2, 3, 4)}
FLOORS: Final = {"weighted": (0, 0.02, 0.05), "majority": (0, 0.15, 0.25)}
SCHEDULES: Final = ("", 'temperatures="0.3:4", ', 'temperatures="0:1, 0.3:3", ')
INCHES: Final = (7.4, 4.2)


def texts() -> list[str]:
    """Votes of every size at each temperature, and anytime ones at each cap."""
    found = [GREEDY]
    for select in ("weighted", "majority"):
        found += [f"best_of_n(n={n}, select={select})" for n in BUDGETS]
        found += [f"best_of_n(n={n}, select={select}, temperature=0.3)" for n in COLD]
        for n in (4, 8, 16):
            found += [f"best_of_n(n={n}, select={select}, {s[:-2]})" for s in SCHEDULES[1:]]
            found += [
                f"best_of_n(n={n}, select={select}, {schedule}lead={lead}, give_up={floor})"
                for schedule in SCHEDULES
                for lead in LEADS[select]
                for floor in FLOORS[select]
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="A directory.")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    strategies = configurations(BUDGETS, texts(), verifier=True)
    with (
        open_rollouts(HERE / "rollouts/fit.jsonl.gz") as fit,
        open_rollouts(HERE / "rollouts/evaluate.jsonl.gz") as unseen,
    ):
        bundle = fit_bundle(fit, FitSettings(BUDGETS, strategies, "quantile:5", merge=True))
        study = Study.of(bundle, read_graded(HERE / "problems/evaluate.jsonl"), BUDGETS)
        source = Path("benchmarks/rollouts/evaluate.jsonl.gz")
        found = asyncio.run(evaluate(study, unseen, fit=fit, source=source))
    command = {"command": f"python -m benchmarks.choosing --out {out}"}
    found = found.model_copy(update={"provenance": found.provenance.model_copy(update=command)})
    found.save(out / "evaluation.json")
    (out / "evaluation.html").write_text(render(found), "utf-8")
    lines = average_lines(found)
    draw = figures.captioned(lines, "generations a problem, on average")
    (out / "averages.png").write_bytes(drawn(draw, INCHES, "png"))
    for sentence in (headline(found), averaged(found), paired(found), *found.notes):
        print(sentence)


if __name__ == "__main__":
    main()
