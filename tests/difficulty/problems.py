"""Made-up problems whose difficulty is known: it grows with the number of terms."""

from __future__ import annotations

import numpy as np

from router.difficulty.levels import Floats, Ints

TERMS = {1: (2, 3), 2: (5, 6, 7), 3: (10, 11, 12)}


def made_up(each: int, seed: int = 0) -> tuple[list[str], Ints, Floats]:
    """Texts, levels 1 to 3 and pass@1 of `each` problems a level."""
    rng = np.random.default_rng(seed)
    texts, levels = [], []
    for level, counts in TERMS.items():
        for _ in range(each):
            terms = rng.integers(2, 900, rng.choice(counts))
            texts.append(f"What is {' + '.join(map(str, terms))}?")
            levels.append(level)
    array = np.array(levels, np.int64)
    pass_at_1 = np.array([0.9, 0.5, 0.1])[array - 1] + rng.uniform(-0.1, 0.1, len(array))
    return texts, array, pass_at_1
