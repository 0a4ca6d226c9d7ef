"""`from router import …` alone gives everything that somebody needs who brings a part."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import router

SOURCE = Path(router.__file__)


def test_a_type_checker_sees_the_very_names_that_there_are() -> None:
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {}
    for line in block.body:
        assert isinstance(line, ast.ImportFrom)
        (alias,) = line.names
        assert alias.name == alias.asname, "or mypy takes it for a private import"
        seen[alias.name] = line.module
    assert seen == router._PUBLIC


def test_a_name_loads_no_more_than_its_own_module() -> None:
    code = (
        "import sys, router; router.InputError;"
        "print(*(name for name in ('pytest', 'numpy', 'router.core') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_star_import_gives_all_of_it() -> None:
    names: dict[str, object] = {}
    exec("from router import *", names)
    assert set(router.__all__) <= set(names)


@pytest.mark.parametrize(
    "part",
    [
        router.Strategy.run,
        router.Strategy.within,
        router.Search.sample,
        router.Search.score,
        router.Search.look_ahead,
        router.candidates,
        router.step_values,
        router.Chooser.choose,
        router.Estimator.levels,
        router.Estimator.needs.fget,  # type: ignore[attr-defined]
        router.Generator.sample,
        router.Generator.info.fget,  # type: ignore[attr-defined]
        router.Prefiller.prefill,
        router.Verifier.score,
        router.Verifier.info.fget,  # type: ignore[attr-defined]
        router.Router.solve,
        router.Task.read,
        router.Task.same,
        router.Task.group,
    ],
    ids=lambda part: part.__qualname__,
)
def test_whoever_writes_a_part_can_name_what_it_takes_and_gives(part: object) -> None:
    """Types of ours in the signatures of the parts are public, but for aliases of builtins."""
    assert callable(part)
    words = set()
    for annotation in inspect.get_annotations(part).values():
        words |= {node.id for node in ast.walk(ast.parse(annotation)) if isinstance(node, ast.Name)}
    aliases = {"Aggregation", "Any", "Decided", "Listener", "Sequence"}
    builtin = {"bool", "dict", "float", "int", "list", "str", "tuple"}
    assert words - aliases - builtin <= set(router.__all__)
