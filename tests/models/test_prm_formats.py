"""Every PRM format on a small random model, against straight-line code for where it is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Model

from router.models.base import VerifierInfo
from router.models.errors import InputError, ModelError, Unscorable, VerifierError
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Step
from router.models.verifiers.prm import FORMATS, get_format, known_format
from router.models.verifiers.reward_heads import RewardHead, StepHead
from router.models.verifiers.transformers import TransformersVerifier
from tests.models import prm_models

QUESTION = "Ann has 3 apples + 12 more.\nIs it ки? How many?"
STEPS = ["First we add 3 and 12.", "Step 2:\nthe sum is 15", "The answer is 15."]
PROBLEM = Problem("apples", QUESTION)
TOLERANCE = 2e-5
"""Float32; batches and caches only change the order of sums."""

Expected = Callable[[Path, list[str]], list[float]]


def expected_math_shepherd(directory: Path, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
    question = QUESTION.replace("ки", "?")  # with no other tag, they can be found by their id
    ids = torch.tensor(tokenizer(f"{question} " + "\n".join(f"{s} ки" for s in steps)).input_ids)
    tag, candidates = tokenizer.encode("ки")[-1], tokenizer.encode("+ -")[-2:]
    scores = model(ids[None]).logits[0][:, candidates].softmax(-1)[:, 0]
    return scores[ids == tag].tolist()


def expected_rlhflow(directory: Path, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
    candidates = [tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]]
    conversation, scores = [], []
    for index, step in enumerate(steps):
        content = f"{QUESTION} {step}" if index == 0 else step
        conversation.append({"role": "user", "content": content})
        conversation.append({"role": "assistant", "content": "+"})
        ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=False)
        scores.append(model(ids).logits[0, -3, candidates].softmax(-1)[0].item())
    return scores


def expected_skywork(directory: Path, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    weights = load_file(directory / "model.safetensors")
    newline = tokenizer.encode("\n")[-1]
    ids, flags = tokenizer.encode("<|im_start|>" + QUESTION + "\n"), []
    for step in steps:
        for line in step.split("\n"):
            ids += [*tokenizer.encode(line), newline]
        flags.append(len(ids) - 1)
    hidden = _states(directory, ids)
    values = hidden @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"]
    return torch.sigmoid(values)[flags].tolist()


def expected_qwen_prm(directory: Path, steps: list[str]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    weights = load_file(directory / "model.safetensors")
    ids = tokenizer.encode(
        "<|im_start|>system\nPlease reason step by step, and put your final answer within "
        f"\\boxed{{}}.<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    for step in steps:
        ids += [*tokenizer.encode(step), 151651]
    ids += tokenizer.encode("<|im_end|>\n")
    hidden = _states(directory, ids)
    inner = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
    both = (inner @ weights["score.2.weight"].T + weights["score.2.bias"]).softmax(-1)
    return both[torch.tensor(ids) == 151651, 1].tolist()


def _states(directory: Path, ids: list[int]) -> torch.Tensor:
    """Last hidden states, shape (tokens, hidden)."""
    model = Qwen2Model.from_pretrained(directory, dtype="float32")
    hidden: torch.Tensor = model(torch.tensor([ids])).last_hidden_state[0]
    return hidden


EXPECTED: dict[str, Expected] = {
    "math-shepherd": expected_math_shepherd,
    "rlhflow": expected_rlhflow,
    "skywork": expected_skywork,
    "qwen-prm": expected_qwen_prm,
}


@pytest.fixture(scope="module")
def checkpoints(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("prm")
    return {
        "math-shepherd": prm_models.save_math_shepherd(root / "math-shepherd"),
        "rlhflow": prm_models.save_rlhflow(root / "rlhflow"),
        "skywork": prm_models.save_skywork(root / "skywork", tokenizer_dir),
        "qwen-prm": prm_models.save_qwen_prm(root / "qwen-prm", tokenizer_dir),
    }


@pytest.fixture(params=list(EXPECTED))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def loaded(checkpoints: dict[str, Path]) -> dict[str, TransformersVerifier]:
    verifiers = {}
    for family, directory in checkpoints.items():
        info = VerifierInfo(family, family, get_format(family).aggregation)
        verifiers[family] = TransformersVerifier.load(
            directory, get_format(family), info, dtype="float32"
        )
    return verifiers


@pytest.fixture
def fresh(
    family: str, loaded: dict[str, TransformersVerifier]
) -> Callable[[], TransformersVerifier]:
    """Verifiers of the family on the same weights that have seen nothing yet."""
    known = loaded[family]
    return lambda: TransformersVerifier(
        known._backbone, known._head, known._encoder, get_format(family), known.info
    )


@pytest.fixture
def verifier(fresh: Callable[[], TransformersVerifier]) -> TransformersVerifier:
    return fresh()


def path_of(*texts: str, problem: Problem = PROBLEM) -> Chain:
    return Chain(problem).extend(*(Step(text, "step") for text in texts))


def close(left: tuple[float, ...] | list[float], right: tuple[float, ...] | list[float]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(math.isclose(a, b, rel_tol=0, abs_tol=TOLERANCE) for a, b in pairs)


async def test_scores_are_read_where_the_references_read_them(
    family: str, verifier: TransformersVerifier, checkpoints: dict[str, Path]
) -> None:
    problem = PROBLEM
    if family == "math-shepherd":
        problem = replace(PROBLEM, text=QUESTION.replace("ки", "?"))
    scored = await verifier.score(path_of(*(f"{step}\n\n" for step in STEPS), problem=problem))
    assert close(scored.values, EXPECTED[family](checkpoints[family], STEPS))
    assert max(scored.values) - min(scored.values) > 0.01  # a wrong read would show


async def test_a_tag_in_the_problem_is_not_a_step(verifier: TransformersVerifier) -> None:
    scored = await verifier.score(path_of(*STEPS))
    assert len(scored.values) == len(STEPS)


async def test_a_trailing_delimiter_changes_nothing(verifier: TransformersVerifier) -> None:
    bare = await verifier.score(path_of(*STEPS))
    ended = await verifier.score(path_of(*(f"{step}\n\n" for step in STEPS)))
    assert close(bare.values, ended.values)


async def test_a_step_without_text_takes_the_score_before_it(
    verifier: TransformersVerifier,
) -> None:
    plain = await verifier.score(path_of(*STEPS[:2]))
    blank = await verifier.score(path_of(STEPS[0], "\n\n", STEPS[1], ""))
    first, second = plain.values
    assert close(blank.values, [first, first, second, second])


async def test_step_by_step_equals_at_once(
    verifier: TransformersVerifier, fresh: Callable[[], TransformersVerifier]
) -> None:
    at_once = await fresh().score(path_of(*STEPS))
    path, values, computed = path_of(), [], 0
    for step in STEPS:
        path = path.extend(Step(step, "step"))
        scored = await verifier.score(path, known=path.depth - 1)
        assert len(scored.values) == 1
        values += scored.values
        computed += scored.tokens or 0
    assert close(values, at_once.values)
    # All but the joins is computed once: what a step costs is its own tokens.
    assert at_once.tokens is not None
    assert at_once.tokens <= computed <= at_once.tokens + len(STEPS)


async def test_a_known_path_costs_its_last_token(verifier: TransformersVerifier) -> None:
    first = await verifier.score(path_of(*STEPS))
    again = await verifier.score(path_of(*STEPS), known=2)
    assert close(again.values, first.values[2:])
    assert again.tokens == 1
    assert again.cached_tokens == (first.tokens or 0) - 1


async def test_all_known_costs_nothing(verifier: TransformersVerifier) -> None:
    scored = await verifier.score(path_of(*STEPS), known=len(STEPS))
    assert (scored.values, scored.tokens) == ((), 0)


async def test_batched_equals_single_in_any_order(
    verifier: TransformersVerifier, fresh: Callable[[], TransformersVerifier]
) -> None:
    other = Problem("other", "What is 2 + 2?")
    paths = [
        path_of(*STEPS),
        path_of("The answer is 27."),
        path_of(*STEPS[:1], "Step 2: we take the half, so 7.", "Hence 7."),
        path_of("It is 4.", "Done.", problem=other),
        path_of(*STEPS[:2], "So the answer is 12, as we said in the first step of all."),
        path_of("2 + 2 = 4", problem=other),
    ]
    single = [await fresh().score(path) for path in paths]
    batched = await asyncio.gather(*(verifier.score(path) for path in reversed(paths)))
    for alone, together in zip(single, reversed(batched), strict=True):
        assert close(together.values, alone.values)
    # What paths of one problem share was computed once.
    assert sum(s.tokens or 0 for s in batched) < sum(s.tokens or 0 for s in single)
    for alone, together in zip(single, reversed(batched), strict=True):
        assert (together.tokens or 0) + (together.cached_tokens or 0) == alone.tokens


async def test_no_probability_is_an_error(
    verifier: TransformersVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(StepHead):
        def probabilities(self, states: torch.Tensor) -> torch.Tensor:
            return torch.full((len(states),), float("nan"))

    monkeypatch.setattr(verifier, "_head", Broken())
    with pytest.raises(VerifierError, match="step 1 of 3 of problem 'apples'"):
        await verifier.score(path_of(*STEPS))


async def test_a_path_beyond_the_context_is_an_error(verifier: TransformersVerifier) -> None:
    with pytest.raises(Unscorable, match="1024"):
        await verifier.score(path_of("many " * 1100))


async def test_a_self_verifier_reads_the_generators_own_tokens(tiny_checkpoint: Path) -> None:
    torch.manual_seed(1)
    layer, head, prompt = 1, RewardHead(128), get_prompt("qwen-math")
    verifier = TransformersVerifier.load_on(
        tiny_checkpoint,
        layer,
        head,
        prompt,
        get_format("self"),
        VerifierInfo("self", "self", "last"),
        dtype="float32",
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    end = tokenizer.eos_token_id
    sampled = [[*tokenizer.encode("Add 3"), *tokenizer.encode(" and 12.\n\n")], []]
    sampled[1] = [*tokenizer.encode("It is 15."), end]
    path = Chain(PROBLEM).extend(
        Step("Add 3 and 12.\n\n", "step", token_ids=tuple(sampled[0])),
        Step("It is 15.", "stop", token_ids=tuple(sampled[1])),
    )

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype="float32")
    opening = tokenizer.encode(
        "<|im_start|>system\nPlease reason step by step, and put your final answer within "
        f"\\boxed{{}}.<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = torch.tensor([[*opening, *sampled[0], *sampled[1]]])
    states = model(ids, output_hidden_states=True).hidden_states[layer][0]
    states = states / states.pow(2).mean(-1, keepdim=True).sqrt()
    last = len(opening) + len(sampled[0]) - 1
    reads = [last, last + len(sampled[1]) - 1]  # before the end-of-text token
    expected = head(states[reads]).softmax(-1)[:, 1].tolist()

    assert close((await verifier.score(path)).values, expected)
    await verifier.aclose()


def test_a_tokenizer_that_splits_the_tag_is_refused() -> None:
    encoder = ChainEncoder(prm_models.llama_tokenizer(), get_prompt("plain"))
    with pytest.raises(ModelError, match="ки"):
        get_format("math-shepherd").layout.encode(path_of("a"), encoder)


@pytest.mark.parametrize("entry", FORMATS.values(), ids=lambda entry: entry.id)
def test_published_models_name_their_format(entry: object) -> None:
    assert entry in FORMATS.values()
    for model in getattr(entry, "models"):  # noqa: B009
        assert known_format(model) is entry


def test_unknown_formats_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="qwen-prm"):
        get_format("qwen-prn")
    with pytest.raises(InputError, match="LlamaForCausalLM"):
        known_format("some/model", ("LlamaForCausalLM",))


def test_a_chat_is_rendered_once_however_many_steps_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = prm_models.llama_tokenizer()
    encoder = ChainEncoder(tokenizer, get_prompt("plain"))
    rendered = []
    render = type(tokenizer).apply_chat_template

    def counting(self: Any, chat: Any, **options: Any) -> Any:
        rendered.append(len(chat))
        return render(self, chat, **options)

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", counting)
    chain = Chain(Problem("p", "1 + 1")).extend(
        *[Step(f"Step {n}.\n\n", "step") for n in range(30)]
    )
    encoded = get_format("rlhflow").layout.encode(chain, encoder)
    assert rendered == [59]
    assert len(set(encoded.reads)) == 30
    shorter = get_format("rlhflow").layout.encode(chain.parent, encoder)
    assert encoded.ids[: len(shorter.ids)] == shorter.ids
    assert encoded.reads[:-1] == shorter.reads
