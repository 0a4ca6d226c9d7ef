from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from router.difficulty.features import FEATURES, NAMES, VERSION, extract


def value(text: str, name: str) -> float:
    return float(extract([text])[0, NAMES.index(name)])


def test_the_vector_is_fixed_by_its_version() -> None:
    # A new digest means that saved estimators are wrong: raise VERSION with it.
    digest = hashlib.sha256("\n".join(NAMES).encode()).hexdigest()[:12]
    assert (VERSION, len(NAMES), digest) == (1, 80, "b1580b38ffe8")


def test_names_are_unique_and_documented() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.doc.endswith(".") for feature in FEATURES)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("Two cats. Three dogs!\nHow many?", "sentences", 3),
        ("Who? Me! Yes. No", "sentences", 4),
        ("The cat and the dog", "words", 5),
        ("The cat and the dog", "distinct_words", 4),
        ("1,234 cats, 5.5 dogs and 7", "numbers", 3),
        ("1,234 cats, 5.5 dogs", "largest_number", np.log10(1235)),
        ("1,234 cats, 5.5 dogs", "smallest_number", np.log10(6.5)),
        ("1,234 cats, 5.5 dogs", "decimals", 1),
        ("He has 3. She has 4 and 5. How old is 6?", "question_numbers", 1),
        ("10 and 20 and 25", "round_numbers", 2),
        ("1/2 of \\frac{3}{4}", "fractions", 2),
        ("20% of 5 percent", "percents", 2),
        ("It costs $12 or 3 dollars", "money", 2),
        ("two dozen", "number_words", 2),
        ("half of a third", "fraction_words", 2),
        ("3 + 4 - 5", "sums", 2),
        ("x^2 + y^{3}", "powers", 2),
        ("x^2 + y = a", "variables", 2),
        ("a cat and I", "variables", 0),
        ("f(g(x)) + 1", "nesting", 2),
        ("))((", "nesting", 2),
        ("\\sqrt{2} + \\sqrt{\\pi}", "commands", 3),
        ("\\sqrt{2} + \\sqrt{\\pi}", "distinct_commands", 2),
        ("\\sqrt{2} + \\sqrt{\\pi}", "roots", 2),
        ("\\sqrt{2} + \\sqrt{\\pi}", "words", 0),
        ("How many cats? How much?", "how_many", 1),
        ("Prove that it is so", "prove", 1),
        ("Find it", "find", 1),
        ("Each dog has twice as many as every cat", "each", 2),
        ("Each dog has twice as many as every cat", "multiples", 1),
        ("Then Ann met Bob, Ann and Cid", "names", 3),
        ("1,000 cats, dogs", "commas", 1),
    ],
)
def test_feature(text: str, name: str, expected: float) -> None:
    assert value(text, name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "9" * 5000, "(" * 5000, "\\" * 5000, "五加三等于几？", "\0🙂 e\u0301", "1e999 nan"],
)
def test_any_text_has_finite_features(text: str) -> None:
    found = extract([text])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_a_text_has_the_same_features_alone_and_in_company() -> None:
    texts = ["What is 2 + 3?", "", "Each of 7 dogs has \\frac{1}{2} a bone."]
    together = extract(texts)
    assert together.shape == (3, len(NAMES))
    assert np.array_equal(together, np.vstack([extract([text]) for text in texts]))
    assert extract([]).shape == (0, len(NAMES))


def test_a_problem_takes_under_a_millisecond() -> None:
    text = "Each of 7 dogs has 3 bones, and then 2 more. " * 6 + "How many bones are left?"
    extract([text])
    started = time.process_time()
    extract([text] * 50)
    assert (time.process_time() - started) / 50 < 1e-3


def test_time_grows_with_the_length_not_faster() -> None:
    def seconds(text: str) -> float:
        started = time.process_time()
        extract([text])
        return time.process_time() - started

    for piece in ("9", "(", "\\", "a ", "1,111", "x+", ".", "$", "A"):
        assert seconds(piece * 20_000) < 1, piece
