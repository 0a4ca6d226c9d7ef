"""Tells when another file takes the import name of one of our top-level packages.

Our packages have common names (`models`, …), so a host application's own `models.py` can come
first on `sys.path`. Python's own message, "'models' is not a package", would not say whose.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("difficulty", "models", "strategies")


def check_siblings(root: Path) -> None:
    """Make sure that each sibling of the `router` package is the one inside directory `root`.

    Runs nothing of the other file: a name not imported yet is only looked up.

    Raises:
        ImportError: another file has the name; the message gives both files.
    """
    for name in SIBLINGS:
        ours = root / name
        found = _location(name)
        if found is not None and found.resolve() != ours.resolve():
            raise ImportError(
                f"`router` needs its own package '{name}', {ours / '__init__.py'}, but {found} "
                "comes first under that name; rename the latter, or move it into a package",
                name=name,
                path=str(found),
            )


def _location(name: str) -> Path | None:
    """What `import name` gives: a package's directory, or a module's file."""
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
