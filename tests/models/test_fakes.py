"""The fakes keep the promises of every generator and verifier."""

from __future__ import annotations

from router.models.fakes import FakeGenerator, FakeVerifier
from router.testing import GeneratorConformance, VerifierConformance


class TestGenerator(GeneratorConformance):
    counts_cancelled = True

    async def open(self) -> FakeGenerator:
        return FakeGenerator(seconds_per_token=0.001)

    def running(self) -> int:
        assert isinstance(self.model, FakeGenerator)
        return self.model.running


class TestGeneratorWithoutSeeds(GeneratorConformance):
    async def open(self) -> FakeGenerator:
        return FakeGenerator(seeds=False)


class TestVerifier(VerifierConformance):
    async def open(self) -> FakeVerifier:
        return FakeVerifier(noise=0.1)


class TestSlowVerifier(VerifierConformance):
    async def open(self) -> FakeVerifier:
        return FakeVerifier(seconds=0.01)
