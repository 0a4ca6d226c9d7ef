"""What decides the strategy `auto`: a bundle where one fits the models, else best-of-N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.bundle import Bundle
from router.models.base import Generator, state_layer
from router.models.errors import InputError
from router.opening import Models
from router.policy import (
    BundlePolicy,
    DefaultPolicy,
    Difficulty,
    PilotPolicy,
    Policy,
    PrefillPolicy,
)

_POLICIES: Final[dict[Difficulty, type[BundlePolicy]]] = {
    "text": BundlePolicy,
    "prefill": PrefillPolicy,
    "pilot": PilotPolicy,
}


@dataclass(frozen=True)
class Routing:
    """How `auto` is decided.

    bundle: None where there is none. asked: whether the caller named it; a bundle that merely
    comes with `router` is left out where it does not fit. because: why there is none.

    Raises:
        InputError: an unknown way to tell difficulty.
    """

    bundle: Bundle | None
    asked: bool
    difficulty: Difficulty
    because: str = "no bundle is fitted for this model"

    def __post_init__(self) -> None:
        if self.difficulty not in _POLICIES:
            raise InputError(
                f"difficulty is told by one of {', '.join(_POLICIES)}, not {self.difficulty!r}"
            )

    def policy(
        self, tolerance: float, temperature: float, *, verified: bool, models: Models | None
    ) -> Policy:
        """What decides.

        temperature: of sampling. Where it is not the bundle's, the caller has chosen it, and no
            strategy that would set another counts.
        verified: whether there is, or will be, a verifier.
        models: None before they are opened; the bundle is then taken to fit them.

        Raises:
            InputError: the bundle that was asked for does not fit the models, or there is none
                for what was asked.
        """
        because = self.because
        if self.bundle is not None:
            try:
                self._check(self.bundle, verified, models)
            except InputError as error:
                if self.asked:
                    raise
                because = left_out(error)
            else:
                usual = temperature == self.bundle.origin.temperature
                policy = _POLICIES[self.difficulty](self.bundle, tolerance, own_temperature=usual)
                if policy.reads_prompt and models is not None:
                    _check_layer(self.bundle, models.generator)
                return policy
        if tolerance or self.difficulty != "text":
            what = "a tolerance" if tolerance else f"difficulty by {self.difficulty}"
            raise InputError(f"{what} needs a bundle, and {because}; name one with --bundle")
        return DefaultPolicy(verified, because)

    @staticmethod
    def _check(bundle: Bundle, verified: bool, models: Models | None) -> None:
        if models is None:
            bundle.check_verified(verified)
        else:
            judge = models.verifier
            bundle.check(models.generator.info, None if judge is None else judge.info)


def left_out(error: InputError) -> str:
    """Says why the bundle that comes with `router` does not decide."""
    return f"the shipped bundle is left out ({error})"


def _check_layer(bundle: Bundle, generator: Generator) -> None:
    """Make sure that a generator hands out the states that the bundle reads."""
    assert bundle.prefill is not None
    layer = state_layer(generator)
    if layer != bundle.prefill.layer:
        engine = generator.info.engine
        gives = "none" if layer is None else f"those of layer {layer}"
        raise InputError(
            f"the bundle tells difficulty by states of layer {bundle.prefill.layer}, and the engine"
            f" {engine!r} hands out {gives} here; take --difficulty text"
        )
