"""Attacks a service of its own, and says what others saw meanwhile.

    python -m tests.service.attacks [--seconds 10] [--only NAME] [--output FILE]
    python -m tests.service.attacks.clients NAME http://127.0.0.1:8080 SECONDS

The second attacks a service that runs already, without looking.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from benchmarks.provenance import provenance
from tests.service.attacks.watching import NAMES, Seen, victim

REST = "at rest"


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack")
    parser.add_argument("--only", choices=NAMES, action="append", help="may be repeated")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    note = "milliseconds; where others use the machine (load_average), compare with `at rest`"
    record = {
        "note": note,
        **provenance(),
        "command": "python -m tests.service.attacks",
        "attacks": {},
    }
    columns = ("health_p50", "health_p99", "route_p50", "route_p99", "megabytes_most")
    print(f"{'attack':30}", *(f"{name:>14}" for name in columns))
    with victim() as service:
        for name in (REST, *(options.only or NAMES), REST + ", after"):
            attack = None if name.startswith(REST) else name
            seen = (await Seen.during(attack, service, options.seconds)).to_dict()
            record["attacks"][name] = seen
            print(f"{name:30}", *(f"{seen[column]:14}" for column in columns), flush=True)
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
