"""Somebody else's test of their own strategy."""

from rebase_like import RebaseLike

from router.testing import StrategyConformance


class TestRebaseLike(StrategyConformance):
    strategies = (RebaseLike(n=1), RebaseLike(n=8), RebaseLike(n=5, balance=10))
