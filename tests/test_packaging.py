"""Imports only go down, `import router` is light, and there is one import name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from site import getsitepackages as site_packages

import pytest

import router

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "cli": {"cli", "router", "difficulty", "strategies", "models"},
    "router": {"router", "difficulty", "strategies", "models"},
    "difficulty": {"difficulty", "models"},
    "strategies": {"strategies", "models"},
    "models": {"models"},
}
"""By folder; `router` is what is in no other layer, as `router.core` is."""
LAYERS = frozenset(MAY_IMPORT)
HEAVY = {"fastapi", "lightgbm", "openai", "sklearn", "torch", "transformers", "vllm"}


def sources(layer: str) -> list[Path]:
    module = ROOT / f"{layer}.py"
    return [module] if module.is_file() else sorted((ROOT / layer).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Layers that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "router":
            names = [f"router.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            top, _, rest = name.partition(".")
            below = rest.partition(".")[0]
            yield below if top == "router" and below in LAYERS else top


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


@pytest.mark.parametrize("package", ["", ".core", ".difficulty", ".strategies", ".models"])
def test_import_loads_no_heavy_library(package: str, tmp_path: Path) -> None:
    code = f"import router{package}, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "router" in loaded
    assert not loaded & HEAVY


def test_every_public_name_is_there_and_no_other() -> None:
    names = {name: getattr(router, name) for name in router.__all__}
    assert router.__all__ == sorted(router.__all__)
    assert all(value.__module__.startswith("router.") for value in names.values())
    assert set(router.__all__) <= set(dir(router))
    with pytest.raises(AttributeError, match="no attribute 'Ruoter'"):
        _ = router.Ruoter


EVERYTHING = """
import pkgutil, sys
from importlib import import_module
import router

failed = []
for module in pkgutil.walk_packages(router.__path__, "router."):
    try:
        import_module(module.name)
    except ImportError as error:  # of an extra that is not installed
        failed.append(f"{module.name}: {error}")
ours = [n for n, m in sys.modules.items() if (getattr(m, "__file__", "") or "").startswith(ROOT)]
print(len(ours), *[name for name in ours if name.partition(".")[0] != "router"], *failed)
"""


def test_each_module_has_one_name(tmp_path: Path) -> None:
    """Links in `router/` lead to the layers: nothing may import these as top-level modules."""
    code = f"ROOT = {str(ROOT) + '/'!r}\nimport sys\nsys.path.insert(0, ROOT){EVERYTHING}"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    count, *others = done.stdout.split()
    assert int(count) > 150
    assert not [name for name in others if name.partition(".")[0] in LAYERS], done.stdout


HOST = ("models", "strategies", "difficulty", "cli")


@pytest.mark.parametrize("before", [True, False])
def test_a_host_keeps_its_own_modules_of_such_names(before: bool, tmp_path: Path) -> None:
    """Before `router` on the path and behind it, as modules and as packages."""
    (tmp_path / "cli.py").write_text("mine = 'cli'\n")
    (tmp_path / "models.py").write_text("mine = 'models'\n")
    for name in ("strategies", "difficulty"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"mine = {name!r}\n")
    (tmp_path / "app.py").write_text(
        "import router.core, router.cli\n"
        "from router import Router\n"
        "import models, strategies, difficulty, cli\n"
        "print(models.mine, strategies.mine, difficulty.mine, cli.mine)\n"
        "with Router(engine='fake', verifier='fake') as r:\n"
        "    print(r.solve('1 + 1', 2).answer)\n"
    )
    site = next(p for p in map(Path, site_packages()) if p.is_dir())
    order = [tmp_path, site] if before else [site, tmp_path]
    code = f"import sys; sys.path[:0] = {[str(p) for p in order]!r}; import app"
    done = run_python(code, Path("/"))
    assert done.stdout.split() == [*HOST, "2"], done.stderr
