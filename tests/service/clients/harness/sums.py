"""The same problems as a task of inspect-ai."""

import re
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import Score, accuracy, scorer
from inspect_ai.solver import generate


def sample(record):
    return Sample(input=record["question"], target=record["answer"].split("####")[-1].strip())


@scorer(metrics=[accuracy()])
def boxed():
    async def score(state, target):
        found = re.findall(r"boxed\{(-?[0-9.,]+)\}", state.output.completion)
        return Score(value="C" if found and found[-1] == target.text else "I")

    return score


@task
def sums():
    data = json_dataset(str(Path(__file__).with_name("sums.jsonl")), sample)
    return Task(dataset=data, solver=generate(), scorer=boxed())
