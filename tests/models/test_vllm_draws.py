from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from router.models.generators.vllm_draws import draw

ROWS = 20_000


@pytest.mark.parametrize("vocabulary", [1, 7, 64, 96, 1024])
def test_tokens_come_as_often_as_their_chances(vocabulary: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(vocabulary) * 2
    drawn = draw(logits.expand(ROWS, -1))
    counts = torch.bincount(drawn, minlength=vocabulary)
    expected = torch.softmax(logits.double(), -1) * ROWS
    if vocabulary > 1:
        rare = expected < 5  # together, as the test needs
        found = torch.cat([counts[~rare], counts[rare].sum()[None]])
        due = torch.cat([expected[~rare], expected[rare].sum()[None]])
        assert chisquare(found[due > 0].numpy(), due[due > 0].numpy()).pvalue > 1e-3
    else:
        assert counts.tolist() == [ROWS]


def test_what_is_cut_off_never_comes() -> None:
    torch.manual_seed(0)
    logits = torch.full((ROWS, 256), -torch.inf)
    logits[:, [3, 130, 255]] = torch.tensor([0.0, 1.0, -30.0])
    assert set(draw(logits).tolist()) <= {3, 130, 255}


def test_rows_have_their_own_chances() -> None:
    logits = torch.full((4, 256), -torch.inf)
    logits[range(4), [200, 0, 127, 128]] = 0.0
    assert draw(logits).tolist() == [200, 0, 127, 128]
