"""The problems that the shipped verifier is trained on, and the bundle fitted and evaluated on.

Three sorts: grade-school word problems (GSM8K), procedural arithmetic and algebra (from the package
reasoning-gym, https://github.com/open-thought/reasoning-gym), and problems in the manner of MATH
(`benchmarks.math_templates`, since MATH's own training set is not at hand). The fit uses GSM8K
*train* problems that no verifier was trained on; the evaluation uses the development halves of the
GSM8K and MATH-500 tests, and procedural problems of other seeds. Sorts are interleaved, so that
any prefix of a file is balanced. The verifier's are of the train parts of every source at hand:
those of GSM8K that nothing else has used, and a share of `mixed_train`. Of those of them that no
verifier was trained on the fit takes some too (`fit_mixed`).
`mixed_dev` is of the sources that `evaluate` has none of.

    pip install reasoning-gym==0.1.25
    python -m benchmarks.problems ../shared/data
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.math_templates import TEMPLATES
from router.strategies.tasks import get_task

Record = dict[str, Any]

SEED = 20261123
OUT = Path(__file__).with_name("problems")
ROLLOUTS = Path(__file__).with_name("rollouts")
FIT = {"gsm8k": 60, "procedural": 50, "templates": 40}
EVALUATE = {"gsm8k": 120, "math500": 60, "procedural": 40}
VERIFIER = {
    "gsm8k": 300,
    "college_math": 400,
    "mmlu_stem": 300,
    "mawps": 150,
    "svamp": 150,
    "procedural": 100,
    "templates": 100,
}
FIT_MIXED = {"college_math": 36, "mmlu_stem": 36, "mawps": 36, "svamp": 36, "gsm8k": 36}
MIXED_DEV = {"college_math": 60, "mmlu_stem": 40, "svamp": 30, "mawps": 25, "cmath": 25}

TRIVIAL = {"0", "1"}  # as of primes between 85 and 85, or at least 0 heads
WHOLE = "Give the answer as a whole number."


@dataclass(frozen=True, slots=True)
class Recipe:
    """A data set of reasoning-gym at one difficulty.

    form: said after the question, where the question does not say what an answer looks like.
    """

    dataset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    form: str = WHOLE


# Left out of reasoning-gym: answers that our grading cannot tell from the question's own text
# (simplified fractions, expanded products, factorisations), rounded decimals, clock times, division
# (rounded in silence), polygons (not always convex, as they say), and `gsm_symbolic`, whose
# templates are GSM8K test problems.
RECIPES = (
    Recipe("chain_sum", {"min_terms": 2, "max_terms": 3, "max_digits": 2}),
    Recipe("products", {"min_digits": 1, "max_digits": 2}, ""),
    Recipe("simple_equations", {"min_terms": 2, "max_terms": 2, "max_value": 20}),
    Recipe("lcm", {"min_value": 4, "max_value": 40}),
    Recipe("basic_arithmetic", {"max_terms": 3, "max_digits": 2, "operators": ("+", "-", "*")}),
    Recipe("aiw", {"task_type_weights": (0, 1, 0)}),  # friends: the other puzzles leave gaps
    Recipe("gcd", {"min_value": 12, "max_value": 200}, ""),
    Recipe("count_primes", {"max_n": 90}),
    Recipe("chain_sum", {"min_terms": 4, "max_terms": 6, "min_digits": 2, "max_digits": 4}),
    Recipe("coin_flip", {"min_trials": 2, "max_trials": 6}, "Give the exact probability."),
    Recipe("simple_equations", {"min_terms": 3, "max_terms": 5}),
    Recipe("decimal_chain_sum", {"max_terms": 4, "max_decimal_places": 2}, "Give it exactly."),
    Recipe("base_conversion", {"max_base": 10, "max_value": 300}, "Write its digits only."),
    Recipe("basic_arithmetic", {"min_terms": 4, "max_digits": 2, "operators": ("+", "-", "*")}),
    Recipe("calendar_arithmetic", {"tasks": ["count_days", "count_business_days"]}, ""),
    Recipe("dice", {"num_dice": 2, "max_dice_size": 8}, ""),
    Recipe("products", {"min_digits": 2, "max_digits": 3}, ""),
)


def procedural(split: str, seed: int, number: int, taken: set[str]) -> list[Record]:
    """That many problems, each recipe in turn; texts in `taken` are left out and then in it."""
    from reasoning_gym import create_dataset

    sources = [
        iter(create_dataset(r.dataset, seed=seed + 1000 * i, size=100, **r.settings))
        for i, r in enumerate(RECIPES)
    ]

    def records() -> Iterator[Record]:
        for n in count():
            recipe = RECIPES[n % len(RECIPES)]
            for item in sources[n % len(RECIPES)]:
                text = f"{item['question'].strip()}\n{recipe.form}".strip()
                if text not in taken and item["answer"] not in TRIVIAL:
                    break
            taken.add(text)
            yield {
                "id": f"procedural/{split}/{recipe.dataset}/{n}",
                "problem": text,
                "answer": item["answer"],
                "source": "procedural",
            }

    return list(islice(records(), number))


def templates(rng: random.Random, number: int, taken: set[str]) -> list[Record]:
    """That many problems in the manner of MATH, each template in turn."""
    order = rng.sample(TEMPLATES, len(TEMPLATES))
    found = []
    for n in range(number):
        template = order[n % len(order)]
        while (drawn := template.draw(rng))[0] in taken:
            pass
        text, answer = drawn
        taken.add(text)
        found.append(
            {
                "id": f"templates/{template.name}/{n}",
                "problem": text,
                "answer": answer,
                "subject": template.subject,
                "level": template.level,
                "source": "templates",
            }
        )
    return found


def gsm8k_train(data: Path, rng: random.Random, number: int) -> list[Record]:
    """Train problems that are in no stored rollouts, so that no verifier was trained on them."""
    seen = set()
    ours = [ROLLOUTS / name for name in ("gsm8k_train.jsonl.gz", "verifier_train.jsonl.gz")]
    for file in (data / "pilot_rollouts.jsonl.gz", *ours):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            seen |= {json.loads(line)["id"] for line in lines}
    fresh = [r for r in read(data / "gsm8k_train.jsonl") if r["id"] not in seen]
    return rng.sample(fresh, number)


def verifier_train(data: Path, fit: Sequence[Record], taken: set[str]) -> list[Record]:
    """Problems of every train part; none that the bundle is fitted on."""
    rng = random.Random(SEED + 1)
    used = {record["id"] for record in fit}
    parts = [
        [r for r in gsm8k_train(data, rng, VERIFIER["gsm8k"] + len(used)) if r["id"] not in used]
    ]
    parts += by_source(data / "mixed_train.jsonl", ("college_math", "mmlu_stem", "mawps", "svamp"))
    parts.append(procedural("train", SEED + 100_000, VERIFIER["procedural"], taken))
    parts.append(templates(rng, VERIFIER["templates"], taken))
    return interleaved(
        [part[:number] for part, number in zip(parts, VERIFIER.values(), strict=True)]
    )


def verifier_large(pool: Sequence[Record]) -> list[Record]:
    """What the larger model's head is trained on: its own, and what tells the smaller one's apart.

    The larger model takes seconds to read a solution, and those of a problem that are all right or
    all wrong tell little.
    """
    solved = outcomes("mixed_train.jsonl.gz")
    wanted = outcomes("large_train.jsonl.gz").keys() | {
        id_ for id_, right in solved.items() if len(right) > 1
    }
    return [record for record in pool if record["id"] in wanted]


def outcomes(name: str) -> dict[str, set[bool]]:
    """By problem whether its stored solutions are right: both, only one, or neither."""
    with gzip.open(ROLLOUTS / name, "rt", encoding="utf-8") as lines:
        runs = [run for run in map(json.loads, lines) if "candidates" in run]
    return {run["problem"]: {bool(c["correct"]) for c in run["candidates"]} for run in runs}


def fit_mixed(pool: Sequence[Record]) -> list[Record]:
    """Of the verifier's problems the first of each source that no verifier was trained on."""
    trained_on = outcomes("mixed_train.jsonl.gz")
    fresh = [record for record in pool if record["id"] not in trained_on]
    return interleaved(
        [
            [record for record in fresh if record["source"] == source][:number]
            for source, number in FIT_MIXED.items()
        ]
    )


def mixed_dev(data: Path) -> list[Record]:
    """The first of each source, in turn."""
    parts = by_source(data / "mixed_dev.jsonl", MIXED_DEV)
    return interleaved(
        [part[:number] for part, number in zip(parts, MIXED_DEV.values(), strict=True)]
    )


def by_source(file: Path, sources: Iterable[str]) -> list[list[Record]]:
    """The records of a file, apart by where they are from."""
    records = [lettered(record) for record in read(file)]
    return [[r for r in records if r["source"] == source] for source in sources]


def lettered(record: Record) -> Record:
    """The record; one with lettered choices is a task of its own."""
    return {**record, "task": "choice"} if record.get("kind") == "choice" else record


def math500(data: Path, number: int) -> list[Record]:
    """The first of the development half, as many of each level."""
    records = read(data / "math500_dev.jsonl")
    levels = [[r for r in records if r["level"] == level] for level in range(1, 6)]
    return interleaved([level[: number // 5] for level in levels])


def interleaved(parts: Sequence[Sequence[Record]]) -> list[Record]:
    """All in one list in which every prefix holds its share of each part."""
    places = [((i + 0.5) / len(p), n, r) for n, p in enumerate(parts) for i, r in enumerate(p)]
    return [record for *_, record in sorted(places, key=lambda place: place[:2])]


def read(path: Path) -> list[Record]:
    """The records of a JSONL file, without their solutions."""
    with path.open(encoding="utf-8") as lines:
        return [{k: v for k, v in json.loads(line).items() if k != "solution"} for line in lines]


def write(path: Path, records: Sequence[Record]) -> None:
    """One record a line.

    Raises:
        ValueError: a text or id that occurs twice, or a gold answer that does not equal itself.
    """
    for key in ("id", "problem"):
        if len({record[key] for record in records}) < len(records):
            raise ValueError(f"{path}: a {key} occurs twice")
    for record in records:
        if not get_task("maths").correct_sync(record["answer"], record["answer"]):
            raise ValueError(f"{record['id']}: {record['answer']!r} cannot be graded")
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{len(records)} problems in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="holds the GSM8K and MATH-500 files")
    data = parser.parse_args().data
    rng, taken = random.Random(SEED), set[str]()
    word_problems = gsm8k_train(data, rng, FIT["gsm8k"])
    arithmetic = procedural("fit", SEED, FIT["procedural"], taken)
    unseen = procedural("dev", SEED + 500, EVALUATE["procedural"], taken)
    like_math = templates(rng, FIT["templates"], taken)
    OUT.mkdir(exist_ok=True)
    fit = interleaved([word_problems, arithmetic, like_math])
    write(OUT / "fit.jsonl", fit)
    write(OUT / "procedural_dev.jsonl", unseen)
    held_out = [
        read(data / "gsm8k_dev.jsonl")[: EVALUATE["gsm8k"]],
        math500(data, EVALUATE["math500"]),
        unseen,
    ]
    write(OUT / "evaluate.jsonl", interleaved(held_out))
    pool = verifier_train(data, fit, taken)
    write(OUT / "verifier_train.jsonl", pool)
    write(OUT / "verifier_large.jsonl", verifier_large(pool))
    write(OUT / "fit_mixed.jsonl", fit_mixed(pool))
    write(OUT / "mixed_dev.jsonl", mixed_dev(data))


if __name__ == "__main__":
    main()
