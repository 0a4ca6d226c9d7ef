"""Search through servers as SGLang's and llama.cpp's answer, and through chats alone."""

from __future__ import annotations

import random

import pytest

from router.core import Router
from router.models.errors import InputError, PromptTooLong
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import Chain, FinishReason, Message, Problem, Sampling
from tests.stand_ins import LlamaCpp, SGLang, StandIn, serving

QUESTION = "What is 12 + 35 + 7?"

SERVERS = {
    "SGLang": (SGLang, "token ids"),
    "SGLang before token ids": (lambda **more: SGLang(old=True, **more), "; text"),
    "llama.cpp": (LlamaCpp, "; text"),
}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, **options: object) -> StandIn:
    made: StandIn = SERVERS[kind][0](**options)  # type: ignore[operator]
    return made


def router(url: str, temperature: float = 0.0, **options: object) -> Router:
    sampling = Sampling(temperature=temperature)
    return Router(  # type: ignore[misc]
        endpoints=[url], verifier=FakeVerifier(), bundle=None, sampling=sampling, **options
    )


@pytest.mark.parametrize("strategy", ["best_of_n(n=8, select=weighted)", "beam_search(n=8)"])
def test_a_search_goes_through_each(kind: str, strategy: str) -> None:
    with serving(make(kind)) as url, router(url, 0.8) as asked:
        how = SERVERS[kind][1]
        assert how in asked.open().generator.rendering  # type: ignore[attr-defined]
        solution = asked.solve(QUESTION, 8, strategy=strategy)
    assert solution.answer == "54"
    assert all(one.finish == "stop" for one in solution.candidates)
    assert all(len(one.scores or ()) == 3 for one in solution.candidates)
    assert solution.usage.prompt_tokens


@pytest.mark.parametrize(("system", "strict"), [(False, False), (True, True), (False, True)])
def test_a_template_gets_turns_that_it_takes(kind: str, system: bool, strict: bool) -> None:
    stand_in = make(kind, system=system, strict=strict)
    said = (Message("user", "Hello."), Message("user", "Are you there?"))
    asked = Problem("p", QUESTION, history=said)
    with serving(stand_in) as url, router(url) as open_router:
        assert open_router.solve(QUESTION, 2).answer == "54"
        assert open_router.solve(asked, 2).answer == "54"
        refused = len(stand_in.seen)
        assert open_router.solve("What is 3 + 4?", 2).answer == "7"
    form = [body["messages"] for _, body in stand_in.seen[refused:] if "messages" in body]
    for messages in form:  # the form that was taken is remembered
        assert [turn["role"] for turn in messages][:1] == (["system"] if system else ["user"])
        assert any("step by step" in turn["content"] for turn in messages)


def test_a_refusal_of_every_form_keeps_the_servers_reason(kind: str) -> None:
    stand_in = make(kind, strict=True)
    first = Problem("p", QUESTION, history=(Message("assistant", "Hello!"),))
    with serving(stand_in) as url, router(url, prompt="plain") as asked:
        assert asked.solve(QUESTION, 1).answer == "54"
        with pytest.raises(InputError, match=r"refuses .*roles must alternate") as caught:
            asked.solve(first, 1)
    assert "CallExpression" not in str(caught.value)


def test_template_arguments_are_sent_to_whoever_renders(kind: str) -> None:
    stand_in = make(kind)
    told = {"enable_thinking": False}
    with serving(stand_in) as url, router(url, chat_template_kwargs=told) as asked:
        asked.solve(QUESTION, 1)
        assert asked.open().generator.info.prompt == "qwen-math?enable_thinking=false"
    rendered = [body for _, body in stand_in.seen if "messages" in body]
    assert rendered
    assert all(body["chat_template_kwargs"] == told for body in rendered)


def test_a_prompt_over_the_servers_context_is_named(kind: str) -> None:
    with serving(make(kind, context=600)) as url, router(url) as asked:
        with pytest.raises(PromptTooLong):
            asked.solve("Add 1 and 2. " * 60, 2)
        assert asked.solve(QUESTION, 1).answer == "54"


def test_llama_cpp_is_asked_for_no_more_choices_than_it_has_slots() -> None:
    stand_in = LlamaCpp(slots=2)
    with serving(stand_in) as url, router(url, 0.8) as asked:
        assert asked.open().generator.info.context == 4096
        for _ in range(2):
            solution = asked.solve(QUESTION, 8, strategy="best_of_n(n=8, select=majority)")
            assert len(solution.candidates) == 8
            assert solution.usage.sampled_tokens
    asked_for = [body["n"] for body in stand_in.bodies("/v1/completions")]
    assert [n for n in asked_for if n > 2] == [8]  # refused once, and remembered


def test_a_solution_that_begins_with_the_delimiter_is_no_empty_one(kind: str) -> None:
    def late(chain: Chain, _: Sampling, __: random.Random) -> tuple[str, FinishReason]:
        if not chain.text.strip() and not chain.text:
            return "\n\n", "step"
        return ("3 + 4 = 7\n\n", "step") if "=" not in chain.text else ("\\boxed{7}", "stop")

    with serving(make(kind, generator=FakeGenerator(late))) as url, router(url, 0.8) as asked:
        solution = asked.solve("What is 3 + 4?", 4, strategy="beam_search(n=4)")
    assert solution.answer == "7"
    assert all("3 + 4 = 7" in one.text for one in solution.candidates)


async def test_sglangs_tokens_join_and_keep_what_the_last_one_says() -> None:
    """`no_stop_trim` keeps the whole last token in the text, where vLLM cuts it."""
    from router.models.generators.openai import OpenAIGenerator
    from router.models.prompts import get_prompt

    stand_in = SGLang()
    with serving(stand_in) as url:
        generator = await OpenAIGenerator.load([url], model=None, prompt=get_prompt("plain"))
        chain = Chain(Problem("p", QUESTION))
        for _ in range(3):
            sampled = await generator.sample(chain, 1, Sampling("step", temperature=0.0))
            (step,) = sampled.continuations[0].steps
            assert step.logprob == -0.5
            chain = chain.extend(step)
        await generator.aclose()
    assert chain.finished
    assert chain.text == "12 + 35 = 47\n\n47 + 7 = 54\n\nThe answer is \\boxed{54}."
    *_, before, last = stand_in.bodies("/v1/completions")
    assert last["prompt"][: len(before["prompt"])] == before["prompt"]


def test_text_servers_count_tokens_and_log_probabilities_of_every_step() -> None:
    with serving(LlamaCpp()) as url, router(url) as asked:
        models = asked.open()

        async def one() -> list[tuple[int | None, float | None]]:
            chain = Chain(Problem("p", QUESTION))
            sampled = await models.generator.sample(chain, 1, Sampling())
            assert sampled.cached_tokens == 3
            return [(step.tokens, step.logprob) for step in sampled.continuations[0].steps]

        counted = asked.run(lambda _: one())
    assert counted == [(14, -0.5), (13, -0.5), (26, -0.5)]
