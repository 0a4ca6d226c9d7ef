"""DSPy's language model, and a module on it."""

import os
import tempfile

home = tempfile.TemporaryDirectory()
os.environ["DSPY_CACHEDIR"] = home.name

import dspy  # noqa: E402
from trying import ANSWER, MODEL, QUESTION, URL, run  # noqa: E402

lm = dspy.LM(f"openai/{MODEL}", api_base=f"{URL}/v1", api_key="none", cache=False)


def called():
    [answer] = lm(QUESTION)
    assert ANSWER in (answer if isinstance(answer, str) else answer["text"])


def predicted():
    structured = lm.copy(response_format={"type": "json_object"})
    with dspy.context(lm=structured, adapter=dspy.JSONAdapter()):
        found = dspy.Predict("question -> answer: int")(question=QUESTION)
    assert found.answer == 54


def responses():
    newer = dspy.LM(
        f"openai/{MODEL}",
        api_base=f"{URL}/v1",
        api_key="none",
        cache=False,
        model_type="responses",
    )
    [answer] = newer(QUESTION)
    assert ANSWER in (answer if isinstance(answer, str) else answer["text"])


run(
    "dspy",
    {
        "a call": called,
        "`Predict` by `JSONAdapter`, with `json_object`": predicted,
        "responses": responses,
    },
)
