"""What choosing earns on unseen problems: a fit on the committed rollouts, evaluated on others.

    python -m benchmarks.choosing --out benchmarks/results/choosing

Fits votes of every size at each temperature, fixed and anytime, on `rollouts/fit.jsonl.gz`, as
`router fit` does, and evaluates them on `rollouts/evaluate.jsonl.gz`, as `router evaluate
--fit-rollouts` does: the fit resampled together with the problems. Writes `evaluation.json`,
`evaluation.html` (as `router report`) and `averages.png`, the one picture: accuracy against average
cost. Then (`--study fleet` alone) the same for a fleet of both embedded models, the larger one's
rollouts (`rollouts/large_*.jsonl.gz`) joined to those as `router rollouts join` does, with votes of
either and escalation from the one to the other: `fleet.json`, `fleet.html` and `fleet.png`.
Searches with beams are left out, since they were run on few of the problems.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Final

from router.evaluation.evaluate import evaluate
from router.evaluation.records import Evaluation
from router.evaluation.study import Study
from router.evaluation.summary import at_averages, averaged, headline, paired, points, times
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.fitting.costs import measured_fleet
from router.models.types import Problem
from router.problem_files import read_graded
from router.report import figures
from router.report.evaluation import average_lines, render
from router.report.page import render as drawn
from router.rollouts.export import open_rollouts
from router.rollouts.join import join

HERE: Final = Path(__file__).parent
ROLLOUTS: Final = HERE / "rollouts"
BUDGETS: Final = (1, 2, 4, 8, 16)
COLD: Final = (1, 2, 4, 8)
"""At T = 0.3 there are eight samples of the problems that are evaluated."""

CAPS: Final = (4, 8, 16)
GREEDY: Final = "best_of_n(n=1, select=majority, temperature=0)"
LEADS: Final = {"weighted": (0.25, 0.5, 1, 2), "majority": (1, 2, 3, 4)}
FLOORS: Final = {"weighted": (0, 0.02, 0.05), "majority": (0, 0.15, 0.25)}
WORTHS: Final = (0.008, 0.012, 0.02, 0.03, 0.05, 0.08, 0.12)
SCHEDULES: Final = ('temperatures="0.3:4"', 'temperatures="0:1, 0.3:3"')
LARGE: Final = (1, 2, 4)
"""Samples of the larger model, which are all at T = 0.3."""

THEN: Final = ((1, 1), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2), (8, 1), (8, 2))
"""Samples of the smaller model before the larger one is asked, and then of that one; more would
cost more than the largest budget."""

UNSEEN: Final = ("evaluate", "mixed_dev")
"""Problems that nothing was trained or fitted on."""

POLICIES: Final = {
    "learned": "routed by text",
    "prefill": "routed by prefill",
    "oracle": "true levels",
    "fixed": "one strategy for all",
}
AVERAGES: Final = (1, 1.5, 2, 3, 4, 6, 8, 12)
INCHES: Final = (7.4, 4.2)


def anytime(select: str, rule: str, schedule: str = SCHEDULES[-1]) -> list[str]:
    """Votes that stop by this rule, of each cap. More schedules would be more to choose from by
    luck (`benchmarks.ablations`)."""
    return [f"best_of_n(n={n}, select={select}, {schedule}, {rule})" for n in CAPS]


def texts() -> list[str]:
    """Votes of every size at each temperature, and those that stop where more is worth little."""
    found = [GREEDY]
    for select in ("weighted", "majority"):
        found += [f"best_of_n(n={n}, select={select})" for n in BUDGETS]
        found += [f"best_of_n(n={n}, select={select}, temperature=0.3)" for n in COLD]
        found += [f"best_of_n(n={n}, select={select}, {s})" for n in CAPS for s in SCHEDULES]
        found += [text for worth in WORTHS for text in anytime(select, f"worth={worth}")]
    return found


def fleet_texts() -> list[str]:
    """The same, votes of the larger model, and votes of the smaller one that may be left to it."""
    large = {n: f"best_of_n(n={n}, select=majority, temperature=0.3, model=large)" for n in LARGE}
    agreed = large[LARGE[-1]].replace(")", ", worth=0.1)")  # of two that agree
    found = [*texts(), *large.values(), agreed]
    for select, heat in product(("weighted", "majority"), ("", ", temperature=0.3")):
        rules = product(THEN, LEADS[select], FLOORS[select][:2])
        for (n, m), lead, floor in rules:
            if n > 1 or (select, heat) == ("weighted", ", temperature=0.3"):
                first = f"best_of_n(n={n}, select={select}{heat})"
                rule = f"lead={lead * n / 4:g}" + f", give_up={floor}" * (floor > 0)
                found.append(f"escalate(first={first}, then={large[m]}, {rule})")
    return found


def study(fit: Path, unseen: Path, texts: Sequence[str], but: Collection[str] = ()) -> Evaluation:
    """Fit these on one file of rollouts, and evaluate them on another.

    but: ids of problems that are left out of both.
    """
    with open_rollouts(fit) as fitted, open_rollouts(unseen) as store:
        fleet = measured_fleet(fitted)
        strategies = configurations(BUDGETS, texts, verifier=True, fleet=fleet)
        settings = FitSettings(BUDGETS, strategies, "quantile:5", merge=True)
        known = [problem for problem in fitted.problems() if problem.id not in but]
        bundle = fit_bundle(fitted, settings, known)
        others = [problem for problem in graded(*UNSEEN) if problem.id not in but]
        study = Study.of(bundle, others, BUDGETS)
        return asyncio.run(evaluate(study, store, fit=fitted, source=Path(unseen.name)))


def graded(*names: str) -> list[Problem]:
    return [problem for name in names for problem in read_graded(HERE / f"problems/{name}.jsonl")]


def answered(part: str) -> list[Problem]:
    """Those that the larger model has answered."""
    with open_rollouts(ROLLOUTS / f"large_{part}.jsonl.gz") as store:
        return store.problems()


def write(study: str, out: Path) -> None:
    """Make a study and write what it found."""
    make, name, picture = STUDIES[study]
    found = make()
    command = {"command": f"python -m benchmarks.choosing --out {out} --study {study}"}
    found = found.model_copy(update={"provenance": found.provenance.model_copy(update=command)})
    found.save(out / f"{name}.json")
    (out / f"{name}.html").write_text(render(found), "utf-8")
    draw = figures.captioned(average_lines(found), "generations a problem, on average")
    (out / f"{picture}.png").write_bytes(drawn(draw, INCHES, "png"))
    for sentence in (headline(found), averaged(found), paired(found), *found.notes):
        print(sentence)
    print(table(found))


def table(found: Evaluation) -> str:
    """How many times as much the best single vote has to spend, and what it lacks at equal cost."""
    rows = {
        average: [
            f"{times(found, equal, 'generations')}, {points(equal.gain)}"
            for policy in POLICIES
            for equal in at_averages(found, policy)
            if equal.average == average
        ]
        for average in AVERAGES
    }
    head = ["average", *POLICIES.values()], ["---"] * (len(POLICIES) + 1)
    lines = [*head, *([f"{average:g}", *cells] for average, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def alone() -> Evaluation:
    """Of the smaller model, on every problem that nothing was fitted on."""
    return study(ROLLOUTS / "fit.jsonl.gz", ROLLOUTS / "evaluate.jsonl.gz", texts())


def fleet() -> Evaluation:
    """Of both models, on what the larger one has answered too."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("fit", "evaluate"):
            models = {"small": f"{part}.jsonl.gz", "large": f"large_{part}.jsonl.gz"}
            files = [(name, ROLLOUTS / file) for name, file in models.items()]
            join(files, Path(folder) / f"{part}.sqlite")
        asked = {problem.id for file in ("fit", "evaluate") for problem in answered(file)}
        of_one = {problem.id for problem in graded("fit_mixed", *UNSEEN)} - asked
        fit, unseen = (Path(folder) / f"{part}.sqlite" for part in ("fit", "evaluate"))
        return study(fit, unseen, fleet_texts(), of_one)


STUDIES: Final = {"alone": (alone, "evaluation", "averages"), "fleet": (fleet, "fleet", "fleet")}
"""What is studied, the name of its files and that of its picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="A directory.")
    parser.add_argument("--study", choices=STUDIES, help="One of the two; both by default.")
    asked = parser.parse_args()
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    for study in [asked.study] if asked.study else STUDIES:
        write(study, out)


if __name__ == "__main__":
    main()
