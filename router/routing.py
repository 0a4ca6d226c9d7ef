"""What decides the strategy `auto`: a bundle where one fits the models, else best-of-N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.errors import InputError
from router.bundle import Bundle
from router.opening import Models
from router.policy import BundlePolicy, DefaultPolicy, Difficulty, PilotPolicy, Policy

_POLICIES: Final[dict[Difficulty, type[BundlePolicy]]] = {
    "text": BundlePolicy,
    "pilot": PilotPolicy,
}


@dataclass(frozen=True)
class Routing:
    """How `auto` is decided.

    bundle: None where there is none. asked: whether the caller named it; a bundle that merely
    comes with `router` is left out where it does not fit.

    Raises:
        InputError: an unknown way to tell difficulty.
    """

    bundle: Bundle | None
    asked: bool
    difficulty: Difficulty

    def __post_init__(self) -> None:
        if self.difficulty not in _POLICIES:
            raise InputError(
                f"difficulty is told by {' or '.join(_POLICIES)}, not {self.difficulty!r}"
            )

    def policy(self, tolerance: float, *, verified: bool, models: Models | None) -> Policy:
        """What decides.

        verified: whether there is, or will be, a verifier.
        models: None before they are opened; the bundle is then taken to fit them.

        Raises:
            InputError: the bundle that was asked for does not fit the models, or there is none
                for what was asked.
        """
        because = "no bundle is fitted for this model"
        if self.bundle is not None:
            try:
                self._check(self.bundle, verified, models)
            except InputError as error:
                if self.asked:
                    raise
                because = f"the shipped bundle is left out ({error})"
            else:
                return _POLICIES[self.difficulty](self.bundle, tolerance)
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
