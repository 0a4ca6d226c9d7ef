"""What the scripts of this folder share. Each tries one client on a service, whose URL it is given.

They run in an environment of the clients' own, so they import nothing of `router`.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version

URL = sys.argv[1]
MODEL = "fake@4"
QUESTION = "What is 12 + 35 + 7?"
ANSWER = "\\boxed{54}"


def run(package: str, tries: Mapping[str, Callable[[], object]]) -> None:
    """Try each, and print what came of it as a line of JSON. package: the client's own."""
    known = version(package)
    for name, attempt in tries.items():
        try:
            attempt()
            error = ""
        except Exception as caught:
            traceback.print_exc()
            error = f"{type(caught).__name__}: {caught}"
        print(json.dumps({"version": known, "tried": name, "error": error}))
