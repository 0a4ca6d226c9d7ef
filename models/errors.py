"""The one exception tree of `router`.

    RouterError                    anything `router` raises on purpose; exit code 1
    ├── InputError                 what the user gave cannot be used; exit code 2
    │   ├── PromptTooLong          the problem does not fit the model's context
    │   ├── NotFinite              a feature is NaN or infinite; a ValueError too
    │   └── NotInstalled           a library of an extra is missing; a ModelError too
    ├── ModelError                 weights cannot be found, verified, converted or loaded
    ├── EngineError                a generator call failed; carries its cause, never becomes text
    ├── VerifierError              a verifier call failed, or returned what is not a probability
    ├── Unscorable                 a verifier cannot take this one path, and can take others
    ├── BudgetExhausted            the search may not spend any more; carries the typed reason
    └── NoCandidates               a search ended without one finished solution

Messages name the offending value and the way out. All can be pickled, as a worker in another
process does with them. An error that leaves a search carries what the search has spent; one that
leaves a call to a generator, what that call has done, where the engine knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.models.types import EndReason
    from router.models.usage import Usage


class RouterError(Exception):
    """Base of every error that `router` raises on purpose.

    said: the words in it of a server, an engine or a library, which may quote a prompt; `plain` is
        the text without them, for logs that are to hold no prompt.
    usage: what was spent until then; None where nothing is known of it.
    """

    exit_code = 1
    usage: Usage | None = None

    def __init__(self, message: str = "", said: str = "") -> None:
        super().__init__(message)
        self.said = said

    @property
    def plain(self) -> str:
        return str(self).replace(self.said, "…") if self.said else str(self)


class InputError(RouterError):
    """What the user gave (a value, a file, a strategy text) cannot be used."""

    exit_code = 2


class PromptTooLong(InputError):
    """The rendered problem leaves no room for an answer in the model's context."""


class NotFinite(InputError, ValueError):
    """A feature is NaN or infinite; a ValueError, since scikit-learn's API asks for one."""


class ModelError(RouterError):
    """Weights cannot be found, verified, converted or loaded."""


class NotInstalled(InputError, ModelError):
    """A library of an extra is missing; a ModelError too, since it may be what loads weights."""


class EngineError(RouterError):
    """A generator call failed. `said` or `__cause__` holds what the engine said."""


class VerifierError(RouterError):
    """A verifier call failed, or returned a value that is not a probability."""


class Unscorable(RouterError):
    """A verifier cannot take this path (it is too long, say); it can take others."""


class BudgetExhausted(RouterError):
    """The search context refuses to spend more; `reason` says which limit ended it."""

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BudgetExhausted], tuple[EndReason, str]]:
        return type(self), (self.reason, str(self))


class NoCandidates(RouterError):
    """A search ended (or was ended) without one finished solution; `ended` says by what."""

    def __init__(self, ended: EndReason, message: str) -> None:
        super().__init__(message)
        self.ended = ended

    def __reduce__(self) -> tuple[type[NoCandidates], tuple[EndReason, str]]:
        return type(self), (self.ended, str(self))
