"""Pages of bundles and evaluations: what they say, and that they need nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from benchmarks.simulated import SEARCHES, WORLD, Kind, Simulation, simulated_store
from router import cli
from router.bundle import Bundle
from router.evaluation.evaluate import evaluate
from router.evaluation.records import Evaluation
from router.evaluation.study import Study
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.report import bundle as bundle_page
from router.report import evaluation as evaluation_page
from router.report.figures import OTHERS
from router.rollouts.store import RolloutStore

BUDGETS = (1, 4, 8)
GRID = configurations(BUDGETS, SEARCHES[1:], verifier=True)
BEAMS = tuple(replace(kind, searches={"beam_search": 1.0, "dvts": 0.01}) for kind in WORLD)
"""Beam search is always right, so it wins everywhere."""


def fitted(path: Path, kinds: tuple[Kind, ...] = WORLD) -> Bundle:
    simulated_store(path, 60, GRID, kinds=kinds)
    with RolloutStore.read(path) as store:
        return fit_bundle(store, FitSettings(BUDGETS, GRID, levels="quantile:3"))


async def evaluated(bundle: Bundle, path: Path, kinds: tuple[Kind, ...] = WORLD) -> Evaluation:
    world: Simulation = simulated_store(path, 40, GRID, seed=5, kinds=kinds)
    unseen = replace(bundle, manifest={**bundle.manifest, "data": {"texts": [], "problems": 60}})
    with RolloutStore.read(path) as store:
        return await evaluate(Study.of(unseen, world.problems), store)


def check_colours(page: str) -> None:
    """No picture has more than five colours to be told apart by its legend, or a name twice."""
    for legend in re.findall(r'<ul class="legend">(.*?)</ul>', page):
        entries = re.findall(r'<i class="(\w*)" style="color:(#\w{6})"></i>([^<]*)', legend)
        assert len({colour for kind, colour, _ in entries if kind != "dashed"} - {OTHERS}) <= 5
        assert len({(kind, colour) for kind, colour, _ in entries}) == len(entries)
        assert len({name for *_, name in entries}) == len(entries)


def check_page(page: str) -> None:
    """One file, no requests, both themes, a sentence and both sizes for each picture."""
    assert len(page) < 600_000
    assert not re.search(r"(?:src|href|action)=\"(?!#|data:)|@import|url\((?!#|data:)", page)
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    check_colours(page)
    assert page.count('class="wide"') == page.count('class="narrow"') == page.count("<figure>")
    assert page.count('role="img" aria-label="') == 2 * page.count("<figure>")
    for sentence in re.findall(r"<h2>[^<]*</h2><p>([^<]*)</p>", page):
        assert sentence.rstrip().endswith((".", ":")), sentence
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower().split()


def test_an_evaluations_page_shows_its_figures(simulated_evaluation: Evaluation) -> None:
    evaluation = simulated_evaluation
    page = evaluation_page.render(evaluation)
    check_page(page)
    assert page.count("<figure>") == 7
    titles = re.findall("<h2>([^<]*)</h2>", page)
    assert titles == [
        "Average budgets",
        "Compute-optimal routing",
        "Each strategy for every problem",
        "By level",
        "Decisions",
        "Which part loses",
        "Predicted difficulty",
        "Spend",
        "All numbers",
    ]
    point = evaluation.curve("learned").at(8)
    assert point is not None
    assert f"{100 * point.accuracy.value:.1f}" in page
    assert evaluation.provenance.bundle in page
    assert page == evaluation_page.render(evaluation)


def test_a_bundles_page_shows_its_table(simulated_bundle: Bundle) -> None:
    page = bundle_page.render(simulated_bundle)
    check_page(page)
    assert page.count("<figure>") == 5
    cells = re.findall(r'data-head="N = \d+"><b>([^<]*)</b>', page)
    assert len(cells) == simulated_bundle.table.levels * len(BUDGETS)
    assert "DVTS of 8" in cells
    assert any(cell.startswith("beam search of ") for cell in cells)
    assert "levels have winners of their own at budgets 4, 8; whether on others" in page


async def test_both_say_plainly_if_one_strategy_wins_everywhere(tmp_path: Path) -> None:
    bundle = fitted(tmp_path / "r.db", BEAMS)
    page = bundle_page.render(bundle)
    assert "One strategy wins everywhere, at every level and budget: beam search" in page
    evaluation = await evaluated(replace(bundle, pilot=None), tmp_path / "d.db", BEAMS)
    page = evaluation_page.render(evaluation)
    assert "One strategy wins everywhere: every problem got beam search" in page


def test_a_bundle_without_an_estimator_has_a_page(simulated_bundle: Bundle) -> None:
    page = bundle_page.render(replace(simulated_bundle, estimator=None, pilot=None))
    check_page(page)
    assert "Learned difficulty" not in page


def test_costs_that_are_not_known_are_left_out(simulated_evaluation: Evaluation) -> None:
    record = simulated_evaluation.to_dict()
    for curve in record["curves"]:
        for point in curve["points"]:
            point["flops"] = point["tokens"] = None
    for equal in record["equal"]:
        equal["flops"] = equal["tokens"] = None
    page = evaluation_page.render(Evaluation.from_dict(record))
    check_page(page)
    assert "Spend" not in page
    assert "not known" in page


def test_the_command_draws_either(
    simulated_bundle: Bundle, simulated_evaluation: Evaluation, tmp_path: Path
) -> None:
    simulated_bundle.save(tmp_path / "bundle")
    simulated_evaluation.save(tmp_path / "e.json")
    for source, title in (("bundle", "bundle</h1>"), ("e.json", "evaluation</h1>")):
        out = tmp_path / f"{source}.html"
        done = CliRunner().invoke(cli.main, ["report", str(tmp_path / source), "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert title in out.read_text("utf-8")
        assert done.stdout.startswith(f"wrote {out}, ")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")
    for source, message in (
        (tmp_path, "is no bundle"),
        (tmp_path / "none.json", "cannot read evaluation"),
        (tmp_path / "broken.json", "has schema None"),
    ):
        arguments = ["report", str(source), "--out", str(tmp_path / "page.html")]
        done = CliRunner().invoke(cli.main, arguments)
        assert done.exit_code == 2
        assert message in done.stderr
    assert not (tmp_path / "page.html").exists()
