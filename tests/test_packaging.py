"""Imports only go down, `import router` is light, and a shadowed package is explained."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "cli": {"cli", "router", "difficulty", "strategies", "models"},
    "router": {"router", "difficulty", "strategies", "models"},
    "difficulty": {"difficulty", "models"},
    "strategies": {"strategies", "models"},
    "models": {"models"},
}
LAYERS = frozenset(MAY_IMPORT)
HEAVY = {"fastapi", "lightgbm", "openai", "sklearn", "torch", "transformers", "vllm"}


def sources(layer: str) -> list[Path]:
    module = ROOT / f"{layer}.py"
    return [module] if module.is_file() else sorted((ROOT / layer).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Top-level names that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_imports_only_go_down(layer: str) -> None:
    files = sources(layer)
    assert files
    for file in files:
        upwards = (set(imported(file.read_text())) & LAYERS) - MAY_IMPORT[layer]
        assert not upwards, f"{file} imports {upwards}"


def run_python(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, with `directory` first on sys.path as a script's would be."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("package", ["router", "difficulty", "strategies", "models"])
def test_import_loads_no_heavy_library(package: str, tmp_path: Path) -> None:
    code = f"import {package}, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert package in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", ["models", "strategies", "difficulty"])
def test_shadowing_module_is_named_and_not_run(name: str, tmp_path: Path) -> None:
    shadow = tmp_path / f"{name}.py"
    shadow.write_text("print('the host application ran')\n")
    done = run_python("import router", tmp_path)
    assert done.returncode != 0
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: ")
    assert str(shadow) in message
    assert str(ROOT / name / "__init__.py") in message
    assert done.stdout == ""


def test_shadowing_module_imported_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("mine = 1\n")
    done = run_python("import models, router", tmp_path)
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: ")
    assert str(tmp_path / "models.py") in message


def test_a_host_application_without_such_names_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import router\nprint(router.__name__)\n")
    done = run_python("import app", tmp_path)
    assert done.stdout == "router\n", done.stderr
