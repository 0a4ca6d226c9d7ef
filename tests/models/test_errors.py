from __future__ import annotations

import pickle

import pytest

from router.models.errors import (
    BudgetExhausted,
    EngineError,
    InputError,
    ModelError,
    NoCandidates,
    NotFinite,
    PromptTooLong,
    RouterError,
    Unscorable,
    VerifierError,
)
from router.models.generators.endpoints import HTTPFailure


@pytest.mark.parametrize(
    "error",
    [
        BudgetExhausted("tokens", "why"),
        EngineError("why"),
        HTTPFailure("why", 400),
        InputError("why"),
        ModelError("why"),
        NoCandidates("deadline", "why"),
        NotFinite("why"),
        PromptTooLong("why"),
        RouterError("why"),
        VerifierError("why"),
        Unscorable("why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes_whole(error: RouterError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == "why"
    assert vars(back) == vars(error)
