"""What an extra of the package brings, asked for before it is used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from router.models.errors import NotInstalled

_PACKAGE: Final = "compute-optimal-router"


def require(what: str, extra: str, *libraries: str) -> None:
    """Make sure that libraries can be imported, without importing them.

    what: that which needs them, for the message. extra: of this package, that brings them.

    Raises:
        NotInstalled: one of them is missing; names the extra.
    """
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise NotInstalled(f"{what} needs {' and '.join(missing)}: {install(extra)}")


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{_PACKAGE}[{extra}]'"


def require_fit(what: str) -> None:
    """As `require`, for the extra `fit`."""
    require(what, "fit", "lightgbm", "safetensors", "sklearn", "scipy")
