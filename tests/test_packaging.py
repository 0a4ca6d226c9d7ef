"""Imports only go down, `import router` is light, and there is one import name."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from site import getsitepackages as site_packages
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_no_class_has_the_name_of_another() -> None:
    places: dict[str, list[str]] = {}
    for layer in LAYERS:
        for file in sources(layer):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(file.resolve()))
    assert not {name: found for name, found in places.items() if len(set(found)) > 1}


def run_python(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, with `directory` first on sys.path as a script's would be."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, check=False
    )


def test_import_loads_no_heavy_library(tmp_path: Path) -> None:
    packages = "router, router.core, router.difficulty, router.strategies, router.models"
    code = f"import {packages}, json, sys; print(json.dumps(sorted(sys.modules)))"
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


def test_each_module_has_one_name() -> None:
    """Links in `router/` lead to the layers: nothing may import these as top-level modules.

    Here, where `ROOT` is on the path, so that they could be.
    """
    pytest.importorskip("torch")  # without it a fifth of them cannot be imported
    assert find_spec("strategies") is not None
    for module in pkgutil.walk_packages(router.__path__, "router."):
        with suppress(ImportError):  # of an extra that is not installed
            import_module(module.name)
    ours = {
        name.partition(".")[0]: name
        for name, module in sys.modules.items()
        if (getattr(module, "__file__", None) or "").startswith(f"{ROOT}/")
    }
    assert sum(name.startswith("router.") for name in sys.modules) > 150
    assert not ours.keys() & (LAYERS - {"router"}), ours


HOST = ("models", "strategies", "difficulty", "cli")
COPIED = ("pyproject.toml", "README.md", "cli.py", "difficulty", "models", "router", "strategies")
"""What the Dockerfile builds a wheel from."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: what `pip install` puts into site-packages."""
    tree, built, site = (tmp_path_factory.mktemp(name) for name in ("tree", "built", "site"))
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, tree / name)
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built, tree)
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, timeout=120)
    with ZipFile(next(built.glob("*.whl"))) as archive:
        archive.extractall(site)
    return site


def test_the_image_copies_what_the_wheel_is_built_from() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    assert sorted(chain(*copies)) == sorted(COPIED)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert kept == {*COPIED, "requirements"}


def test_the_wheel_holds_router_alone_and_all_of_it(wheel: Path) -> None:
    names = {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"}
    assert names == {"router"}
    listed = subprocess.run(
        ["git", "ls-files", "router", *(f"{layer}*" for layer in sorted(LAYERS - {"router"}))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name.removeprefix("router/") for name in listed.stdout.split()}
    links = {path.name for path in (ROOT / "router").iterdir() if path.is_symlink()}
    assert links == {*HOST[:-1], "cli.py"}
    missing = {name for name in tracked - links if not (wheel / "router" / name).is_file()}
    assert not missing


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("installed", ["editable", "wheel"])
def test_a_host_keeps_its_own_modules_of_such_names(
    installed: str, before: bool, wheel: Path, tmp_path: Path
) -> None:
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
        "print(router.__file__)\n"
    )
    site = next(p for p in map(Path, site_packages()) if p.is_dir())
    if installed == "wheel":
        site = wheel
    order = [tmp_path, site] if before else [site, tmp_path]
    code = f"import sys; sys.path[:0] = {[str(p) for p in order]!r}; import app"
    done = run_python(code, Path("/"))
    *answers, used = done.stdout.split() or [""]
    assert answers == [*HOST, "2"], done.stderr
    assert installed == "editable" or used.startswith(str(wheel))


# -- dependencies -----------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMAND = {"click", "rich"}
"""In the core because the command `router` needs them; a search through a server does not."""


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of distributions that installing these brings here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        due = waiting.pop()
        name = canonicalize_name(due.name)
        wanted = due.marker is None or due.marker.evaluate({"extra": ""})
        if name not in found and wanted:
            found.add(name)
            waiting += map(Requirement, requires(name) or ())
    return found


ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from math_verify import parse, verify
from router import Router

with Router(endpoints=[SERVER]) as router:
    print(router.solve("1 + 1", budget=4).answer, verify(parse("$1/2$"), parse("$0.5$")))
"""


def test_core_alone_solves_through_a_server_and_compares(tmp_path: Path) -> None:
    needed = {name for name in PROJECT["dependencies"] if Requirement(name).name not in COMMAND}
    core = closure(needed)
    owners = packages_distributions()
    absent = {
        module
        for module, names in owners.items()
        if not core & set(map(canonicalize_name, names)) and module not in ("router", "tests")
    }
    assert {"click", "rich", "scipy", "sklearn", "lightgbm", "joblib", "fastapi"} <= absent
    port = free_port()
    server = [sys.executable, "-m", "tests.completions_server", port, tmp_path / "log", "0"]
    with subprocess.Popen(list(map(str, server)), cwd=ROOT) as running:
        try:
            wait_for(port)
            values = f"ABSENT = {absent!r}\nSERVER = 'http://127.0.0.1:{port}'\n"
            done = run_python(values + ALONE, ROOT)
        finally:
            running.kill()
    assert done.stdout.split() == ["2", "True"], done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(port)


def locked(name: str) -> dict[str, set[str]]:
    """Versions by canonical name, for any Python and system."""
    versions: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        package, _, version = line.partition(";")[0].strip().partition("==")
        versions.setdefault(canonicalize_name(package), set()).add(version)
    return versions


def test_the_locks_are_of_this_pyproject() -> None:
    """`make lock` was run after the last change of what is needed."""
    left_out = set((ROOT / "requirements" / "excluded.txt").read_text().split())
    lock, extras = locked("dev"), PROJECT["optional-dependencies"]
    unlocked = {"vllm"}  # GPU machines install it as a user does
    wanted = [*PROJECT["dependencies"], *chain(*(extras[e] for e in set(extras) - unlocked))]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name in left_out or name == PROJECT["name"]:
            continue
        assert name in lock, f"{requirement}: make lock"
        assert all(requirement.specifier.contains(version) for version in lock[name]), requirement
    assert all(lock[name] == versions for name, versions in locked("demo").items())
    assert not {"ray", "playwright", "pytest", "mypy"} & set(locked("demo"))


def test_a_lock_names_no_host() -> None:
    for file in (ROOT / "requirements").iterdir():
        assert "://" not in file.read_text()


def test_every_missing_extra_is_named_in_one_way() -> None:
    """By `models.extras`, with an extra that there is."""
    files = [file for layer in LAYERS for file in sources(layer)]
    asked = set()
    for file in files:
        text = file.read_text()
        assert "pip install '" not in text or file.name == "extras.py", file
        if "models.extras import" in text or file.name == "extras.py":
            asked |= set(re.findall(r'\brequire\([^,]+, "([^"]+)"', text))
    assert asked >= {"fit", "local", "ray", "report", "service", "train"}
    assert asked <= set(PROJECT["optional-dependencies"])
