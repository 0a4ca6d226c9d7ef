"""The committed problems of the shipped bundle: well formed, apart, and right."""

import gzip
import json
import math
import re
from calendar import day_name, month_name
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from itertools import product

import pytest

from benchmarks.problems import FIT, FIT_MIXED, OUT, ROLLOUTS, outcomes
from router.problem_files import read_problems
from router.strategies.tasks import get_task


def records(name):
    return [json.loads(line) for line in (OUT / name).open(encoding="utf-8")]


@pytest.mark.parametrize(
    "name",
    ["fit.jsonl", "fit_mixed.jsonl", "procedural_dev.jsonl", "evaluate.jsonl", "mixed_dev.jsonl"],
)
def test_every_problem_can_be_graded(name):
    found = read_problems(OUT / name)
    assert not found.broken
    assert len({problem.text for problem in found.problems}) == len(found.problems)
    assert all(get_task(p.task).correct_sync(p.answer, p.answer) for p in found.problems)


def test_the_fit_shares_nothing_with_the_evaluation_or_the_verifiers_training():
    fit = records("fit.jsonl") + records("fit_mixed.jsonl")
    assert len({r["id"] for r in fit}) == len(fit)
    held_out = records("evaluate.jsonl") + records("procedural_dev.jsonl")
    held_out += records("mixed_dev.jsonl")
    assert not {r["problem"] for r in fit} & {r["problem"] for r in held_out}
    for name in ("gsm8k_train.jsonl.gz", "verifier_train.jsonl.gz"):
        with gzip.open(ROLLOUTS / name, "rt", encoding="utf-8") as lines:
            assert not {r["id"] for r in fit} & {json.loads(line)["id"] for line in lines}
    texts = {r["id"]: r["problem"] for r in records("verifier_train.jsonl")}
    for name in ("mixed_train.jsonl.gz", "large_train.jsonl.gz"):
        trained_on = outcomes(name)
        assert len(trained_on) > 100
        assert not {r["problem"] for r in fit} & {texts[id_] for id_ in trained_on}
    assert not any("/test/" in r["id"] for r in fit)


@pytest.mark.parametrize(("name", "share"), [("fit.jsonl", FIT), ("fit_mixed.jsonl", FIT_MIXED)])
def test_every_prefix_is_balanced(name, share):
    seen = Counter()
    for number, record in enumerate(records(name), 1):
        seen[record["source"]] += 1
        for source, total in share.items():
            assert abs(seen[source] - total * number / sum(share.values())) < 2


# -- The answers of the procedural problems, computed anew ---------------------------------------

EXPRESSION = r"([-+*(). \d]+)"


def value(expression):
    return Fraction(str(eval(re.sub(r"\d+\.\d+", r"Fraction('\g<0>')", expression))))


def root_of(equation):
    left, right = re.sub(r"\b[a-z]\b", "x", equation).split("=")

    def difference(x):
        return eval(left, {"x": x}) - eval(right, {"x": x})

    return Fraction(difference(0), difference(0) - difference(1))


def heads(how, wanted, flips):
    good = range(wanted, wanted + 1 if how == "exactly" else flips + 1)
    return Fraction(sum(math.comb(flips, k) for k in good), 2**flips)


def higher(dice, bound):
    rolls = list(product(*(range(1, int(sides) + 1) for sides in re.findall(r"1d(\d+)", dice))))
    return Fraction(sum(sum(roll) >= bound for roll in rolls), len(rolls))


def primes(low, high):
    return sum(n > 1 and all(n % d for d in range(2, n)) for n in range(low, high + 1))


def based(digits, old, new):
    number, text = int(digits, old), ""
    while number:
        number, digit = divmod(number, new)
        text = str(digit) + text
    return Fraction(text)


def days(text):
    days = [
        date(2022, list(month_name).index(month), int(day))
        for month, day in re.findall(r"day, ([A-Z][a-z]+) (\d+)", text)
    ]
    span = [days[0] + timedelta(n) for n in range((days[1] - days[0]).days + 1)]
    if "weekdays" in text or "business" in text:
        return sum(day.weekday() < 5 for day in span)
    asked = re.search(r"(\w+day)(?:s are| from| occur)", text).group(1)
    return sum(day_name[day.weekday()] == asked for day in span)


def computed(dataset, text):
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    match dataset:
        case "chain_sum" | "decimal_chain_sum":
            return value(re.search(rf": {EXPRESSION}=", text).group(1).strip())
        case "products":
            return value(re.search(rf": {EXPRESSION}\. ", text).group(1))
        case "basic_arithmetic":
            return value(re.search(rf"Calculate {EXPRESSION}\.\n", text).group(1))
        case "simple_equations":
            return root_of(re.search(r": (.*)\n", text).group(1))
        case "lcm":
            return math.lcm(*numbers)
        case "gcd":
            return math.gcd(*numbers)
        case "aiw":
            return numbers[1] + 1
        case "count_primes":
            return primes(*numbers)
        case "coin_flip":
            how = re.search(r"exactly|at least", text).group()
            return heads(how, *numbers)
        case "base_conversion":
            old, digits, new = re.search(r"base-(\d+) number (\d+) to base-(\d+)", text).groups()
            return based(digits, int(old), int(new))
        case "calendar_arithmetic":
            return days(text)
        case "dice":
            dice, bound = re.search(r"dice: ([^.]*)\..* rolling (\d+)", text).groups()
            return higher(dice, int(bound))
    raise AssertionError(dataset)


@pytest.mark.parametrize("name", ["fit.jsonl", "procedural_dev.jsonl"])
def test_procedural_answers_are_right(name):
    wrong = [
        (record["id"], record["answer"])
        for record in records(name)
        if record["source"] == "procedural"
        and computed(record["id"].split("/")[2], record["problem"]) != Fraction(record["answer"])
    ]
    assert not wrong
