"""What Prometheus is told. Labels have few values: never a prompt, a key or a request's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from router.models.usage import Usage
from router.records import Decision

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one service. Stems follow vLLM's names where it has the same thing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._info = self._gauge("info", "What is served.", ("model", "engine", "verifier"))
        self.ready = self._gauge("ready", "1 while the engine answers.")
        self.running = self._gauge("num_requests_running", "Searches that run.")
        self.allowed = self._gauge("num_generations_running", "Budgets of what runs, summed.")
        self.waiting = self._gauge("num_requests_waiting", "Requests that wait for a search.")
        self.reopened = self._counter("engine_reopened", "Times that the models were opened again.")
        self._requests = self._counter("requests", "Requests.", ("route", "outcome"))
        self._latency = self._histogram(
            "e2e_request_latency_seconds", "From a request's headers to its last byte.", ("route",)
        )
        self._queue = self._histogram("request_queue_time_seconds", "Wait for a free search.")
        self._decisions = self._counter(
            "decisions", "Searches by likeliest level and strategy.", ("level", "strategy")
        )
        self._ended = self._counter("searches", "Searches by what ended them.", ("ended",))
        self._budgeted = self._counter("generations_budgeted", "Generations that were allowed.")
        self._generations = self._counter("generations", "Generations that were spent.")
        self._by_model = self._counter(
            "model_generations", "Generations of each model of a fleet, its own.", ("model",)
        )
        self._money = self._counter("money", "What a fleet's tokens cost, by model.", ("model",))
        self._tokens = self._counter("tokens", "Tokens, by kind.", ("kind",))
        self._verifier = self._counter("verifier_seconds", "Time in verifier calls, summed.")

    def serves(self, model: str, engine: str, verifier: str) -> None:
        """Name what is served."""
        self._info.clear()
        self._info.labels(model, engine, verifier).set(1)

    def holds(
        self,
        average: float,
        window: int,
        prices: tuple[float, float],
        spent: Callable[[], float],
        price: Callable[[], float],
    ) -> None:
        """Show the average that searches are held at: as `averages.Controller` says of itself."""
        self._gauge("average_asked", "Generations that searches may cost on average.").set(average)
        self._gauge("average_window", "Searches in which a price is put right.").set(window)
        bounds = self._gauge("average_price_bounds", "Of the price.", ("bound",))
        for bound, value in zip(("lowest", "highest"), prices, strict=True):
            bounds.labels(bound).set(value)
        text = f"What the last {10 * window} searches cost on average."
        self._gauge("average_spent", text).set_function(spent)
        text = "Accuracy that one generation more must add, now."
        self._gauge("average_price", text).set_function(price)

    def request(self, route: str, outcome: str, seconds: float) -> None:
        """Count a request that has ended. route: the path's template, not the path."""
        self._requests.labels(route, outcome).inc()
        self._latency.labels(route).observe(seconds)

    def queued(self, seconds: float) -> None:
        """A request has waited this long for its search."""
        self._queue.observe(seconds)

    def searched(self, ended: str, decision: Decision | None, spent: Usage, budget: int) -> None:
        """Count a search: how it was decided, and what it has spent against its budget.

        ended: `completed` or a limit; `failed`; `left` where nobody waited for its end.
        """
        if decision is not None:
            levels = decision.levels
            level = "none" if levels is None else str(levels.index(max(levels)) + 1)
            self._decisions.labels(level, decision.strategy.name).inc()
        self._ended.labels(ended).inc()
        self._budgeted.inc(budget)
        self._generations.inc(spent.generations)
        for model, own in spent.models.items():
            self._by_model.labels(model).inc(own.generations)
            if own.money is not None:
                self._money.labels(model).inc(own.money)
        self._verifier.inc(spent.verifier_seconds or 0)
        kinds: Mapping[str, int | None] = {
            "sampled": spent.sampled_tokens,
            "prompt": spent.prompt_tokens,
            "prompt_cached": spent.prompt_tokens_cached,
            "verifier": spent.verifier_tokens,
        }
        for kind, tokens in kinds.items():
            if tokens is not None:
                self._tokens.labels(kind).inc(tokens)

    def render(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"router_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"router_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"router_{name}", text, labels, buckets=_SECONDS, registry=self.registry)
