"""The router: decides, per problem and budget, which search to run, and runs it."""

from pathlib import Path

from router._shadowing import check_siblings

check_siblings(Path(__file__).parent.parent)
