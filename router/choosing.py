"""Which search a problem gets: by a fitted table, fixed, or best-of-N where nothing is fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from router.bundle import Bundle
from router.difficulty.base import NOTHING, Estimator, Evidence, Needs, Oracle, Prior
from router.models.base import Generator, state_layer
from router.models.errors import InputError, NotInstalled
from router.models.types import Problem, Sampling
from router.opening import Models
from router.records import Decision
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.fleet import ALONE, Fleet
from router.table import CostUnit, Table

AUTO = "auto"
"""What leaves a choice to the router: of the strategy, the verifier or the bundle."""

Difficulty = Literal["text", "prefill", "pilot"]
"""What a problem's level is told by: its text, the generator's state after reading it, or the
verifier's scores of its first samples."""

_NO_BUNDLE: Final = "no bundle is fitted for this model"


class Chooser(Protocol):
    """Decides how one problem's budget is spent. Safe to call from many threads."""

    @property
    def needs(self) -> Needs:
        """What it wants observed of a problem before it is asked."""
        ...

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:
        """The decision for one problem; its strategy costs no more than the budget.

        evidence: empty where nothing could be observed, or has been yet.

        Raises:
            InputError: nothing fits the budget.
        """
        ...


@dataclass(frozen=True)
class Default:
    """Best-of-N over the whole budget: the safe choice before anything is fitted.

    verified: whether there is a verifier to weight the votes. because: why there is nothing better
    to go by.
    """

    verified: bool
    because: str = _NO_BUNDLE

    @property
    def needs(self) -> Needs:
        return NOTHING

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:  # noqa: ARG002
        strategy = BestOfN(n=budget.generations, select="weighted" if self.verified else "majority")
        vote = "a vote weighted by the verifier" if self.verified else "a majority vote"
        return Decision(strategy, None, None, f"{self.because}, so {vote} over the budget")


@dataclass(frozen=True)
class Fixed:
    """The same strategy for every problem."""

    strategy: Strategy

    @property
    def needs(self) -> Needs:
        return NOTHING

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:  # noqa: ARG002
        return Decision(self.strategy, None, None, "the strategy that was asked for")


@dataclass(frozen=True)
class ByTable:
    """The best configuration of a fitted table, at the level that an estimator tells.

    otherwise: tells the level where what the estimator needs was not observed.
    tolerance: accuracy that may be given up for a cheaper search. price: accuracy that one
    generation more must add, where problems have an average budget (`router.averages`). cost: the
    unit of "cheaper" and of the budget; the table's own by default.
    fitted: how the fit sampled; sampled: how solutions will be; None is as in the fit. Where they
    differ, the decision says so and expects no accuracy, and at another temperature no strategy
    that sets its own counts.

    Raises:
        InputError: a tolerance outside 0 to 1.
    """

    table: Table
    estimator: Estimator
    otherwise: Estimator
    tolerance: float = 0.0
    price: float = 0.0
    cost: CostUnit | None = None
    fitted: Sampling | None = None
    sampled: Sampling | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(f"tolerance must lie between 0 and 1, not {self.tolerance}")

    @classmethod
    def of(cls, bundle: Bundle, difficulty: Difficulty = "text", tolerance: float = 0.0) -> ByTable:
        """By a bundle's table and its estimator of that kind.

        Raises:
            InputError: the bundle was fitted without what that estimator needs.
        """
        text, fitted = bundle.by_text, bundle.origin.sampling
        if difficulty == "text":
            return cls(bundle.table, text, text, tolerance, fitted=fitted)
        if difficulty == "prefill":
            if bundle.prefill is None:
                raise InputError(
                    "the bundle cannot tell difficulty by the prefill, as its generator handed out"
                    " no states; refit it with `router fit` on an engine that does"
                )
            return cls(bundle.table, bundle.prefill, text, tolerance, fitted=fitted)
        if bundle.pilot is None:
            raise InputError(
                "the bundle cannot tell difficulty by a pilot, as none of its samples was scored;"
                " refit it with `router fit --verifier …`"
            )
        prior = Prior(bundle.prior)
        return cls(bundle.table, bundle.pilot, prior, tolerance, fitted=fitted)

    @classmethod
    def at_true_levels(cls, bundle: Bundle, oracle: Oracle, tolerance: float = 0.0) -> ByTable:
        """By a bundle's table, on levels that are given."""
        return cls(bundle.table, oracle, oracle, tolerance, fitted=bundle.origin.sampling)

    @property
    def needs(self) -> Needs:
        return self.estimator.needs

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:
        """As `Chooser.choose`; what the evidence has cost is counted as spent.

        Raises:
            InputError: as `Table.choose`.
        """
        observed = evidence.meets(self.needs)
        estimator = self.estimator if observed else self.otherwise
        unlike = self._unlike()
        decision = self.table.choose(
            estimator.levels(problem, evidence),
            budget.generations,
            tolerance=self.tolerance,
            price=self.price,
            cost=self.cost,
            drawn=evidence.generations or self.needs.drawn(budget.generations),
            own_temperature="temperature" not in unlike,
        )
        why = f"{decision.why}; difficulty judged by {estimator.known(evidence)}"
        if unlike:
            other = ", ".join(f"{name} {new!r}, not {old!r}" for name, (new, old) in unlike.items())
            why += f"; accuracies are those of the fit, and this samples at {other}"
            return replace(decision, why=why, expected_accuracy=None, expected_cost=None)
        return replace(decision, why=why)

    def _unlike(self) -> dict[str, tuple[Any, Any]]:
        """What solutions are sampled at, and what the fit was, where these differ."""
        if self.fitted is None or self.sampled is None:
            return {}
        names = ("temperature", "top_p", "max_tokens", "stop")
        both = {name: (getattr(self.sampled, name), getattr(self.fitted, name)) for name in names}
        return {name: (new, old) for name, (new, old) in both.items() if new != old}


@dataclass(frozen=True)
class Routing:
    """How the strategy `auto` is decided.

    bundle: None where there is none. asked: whether the caller named it; a bundle that merely
    comes with `router` is left out where it does not fit. because: why there is none.

    Raises:
        InputError: an unknown way to tell difficulty.
    """

    bundle: Bundle | None
    asked: bool
    difficulty: Difficulty
    because: str = _NO_BUNDLE

    @classmethod
    def of(
        cls, directory: str | Path | None, asked: bool, difficulty: Difficulty, models: str
    ) -> Routing:
        """By the bundle in a directory; None is none.

        models: what it would be fitted for, in words.

        Raises:
            InputError: the bundle that was asked for cannot be read.
        """
        if directory is None:
            return cls(None, asked, difficulty, f"no bundle is fitted for {models}")
        try:
            return cls(Bundle.load(Path(directory)), asked, difficulty)
        except NotInstalled as error:
            if asked:
                raise
            return cls(None, asked, difficulty, left_out(error))

    def __post_init__(self) -> None:
        if self.difficulty not in get_args(Difficulty):
            raise InputError(
                f"difficulty is told by one of {', '.join(get_args(Difficulty))},"
                f" not {self.difficulty!r}"
            )

    def chooser(
        self,
        tolerance: float,
        *,
        verified: bool,
        models: Models | None,
        fleet: Fleet = ALONE,
    ) -> Default | ByTable:
        """What decides.

        verified: whether there is, or will be, a verifier.
        models: None before they are opened; the bundle is then taken to fit them.
        fleet: the terms of several models.

        Raises:
            InputError: the bundle that was asked for does not fit the models, or there is none
                for what was asked.
        """
        because = self.because
        if self.bundle is not None:
            try:
                self._check(self.bundle, verified, models, fleet)
            except InputError as error:
                if self.asked:
                    raise
                because = left_out(error)
            else:
                chooser = ByTable.of(self.bundle, self.difficulty, tolerance)
                if models is not None:
                    _check_layer(chooser.needs, models.generator)
                return chooser
        if tolerance or self.difficulty != "text":
            what = "a tolerance" if tolerance else f"difficulty by {self.difficulty}"
            raise InputError(f"{what} needs a bundle, and {because}; name one with --bundle")
        return Default(verified, because)

    @staticmethod
    def _check(bundle: Bundle, verified: bool, models: Models | None, fleet: Fleet) -> None:
        bundle.check_known(verified, fleet)
        if models is not None:
            check_models(bundle, models)


def check_models(bundle: Bundle, models: Models) -> None:
    """Make sure that opened models are those that a bundle was fitted on.

    Raises:
        InputError: as `Bundle.check`.
    """
    asked = bundle.table.costs or {models.name}
    for member in (one for one in models.members if one.name in asked):
        judge = None if member.verifier is None else member.verifier.info
        bundle.check(member.generator.info, judge, member.name)


def left_out(error: InputError) -> str:
    """Says why the bundle that comes with `router` does not decide."""
    return f"the shipped bundle is left out ({error})"


def _check_layer(needs: Needs, generator: Generator) -> None:
    """Make sure that a generator hands out the states that are needed, if any."""
    layer = state_layer(generator)
    if needs.layer not in (None, layer):
        gives = "none" if layer is None else f"those of layer {layer}"
        raise InputError(
            f"the bundle tells difficulty by states of layer {needs.layer}, and the engine"
            f" {generator.info.engine!r} hands out {gives} here; take --difficulty text"
        )
