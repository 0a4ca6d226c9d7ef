"""Conformance suites for parts that other people bring: strategies, generators, verifiers.

Each is a class for pytest, which need not know of asyncio. Say in a subclass what is to be tested:

    from router.testing import StrategyConformance

    class TestMine(StrategyConformance):
        strategies = (Mine(n=4),)

`import router` does not import this package, which needs pytest.
"""

import pytest

# So that an assertion that fails shows its values, as in a test file.
pytest.register_assert_rewrite(
    *(f"router.testing.{name}" for name in ("generators", "strategies", "verifiers"))
)

from router.testing.generators import GeneratorConformance  # noqa: E402
from router.testing.strategies import StrategyConformance  # noqa: E402
from router.testing.verifiers import VerifierConformance  # noqa: E402

__all__ = ["GeneratorConformance", "StrategyConformance", "VerifierConformance"]
