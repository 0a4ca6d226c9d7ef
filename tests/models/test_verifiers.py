"""Loading verifiers: what a directory tells, what is refused, and trained heads on a generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from router.models.errors import InputError, ModelError, VerifierError
from router.models.generators.transformers import TransformersGenerator
from router.models.prompts import PROMPTS, Prompt
from router.models.runtime.numbers import compute_dtype
from router.models.states import StepState
from router.models.types import Chain, Problem, Sampling, Step
from router.models.verifiers.checkpoint import cached_checkpoint
from router.models.verifiers.load import GeneratorStates, load_verifier
from router.models.verifiers.prm import OWN, SELF_MEAN, get_format
from router.models.verifiers.reward_heads import RewardHead
from router.models.verifiers.trained_head import WEIGHTS_FILE, Backbone, HeadConfig
from router.models.verifiers.transformers import TransformersVerifier
from router.models.weights.fingerprint import fingerprint
from tests.models import prm_models

PATH = Chain(Problem("sum", "What is 2 + 3?")).extend(
    Step("We add them.\n\n", "step"), Step("It is 5.", "stop")
)
LAYER = 1


@pytest.fixture(scope="module")
def llama_prm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return prm_models.save_rlhflow(tmp_path_factory.mktemp("rlhflow"))


def save_head(directory: Path, generator: Path, form: str = "self", **changes: object) -> Path:
    """A random head on the generator's first layer."""
    torch.manual_seed(0)
    head = RewardHead(128)
    with torch.no_grad():
        head.score[0].weight *= 4  # so that scores differ visibly
        if form == SELF_MEAN:  # the second output must be linear: wx = relu(wx) - relu(-wx)
            head.score[0].weight[1] = -head.score[0].weight[0]
            head.score[0].bias[:2] = 0
            head.score[2].weight[1] = 0
            head.score[2].weight[1, :2] = torch.tensor([1.0, -1.0])
    backbone = Backbone(generator.name, fingerprint(generator), 128)
    fields = {
        "name": "head",
        "format": form,
        "layer": LAYER,
        "prompt": "qwen-math",
        "aggregation": "mean",
        "backbone": backbone,
        **changes,
    }
    directory.mkdir()
    HeadConfig(**fields).save(directory)  # type: ignore[arg-type]
    head.save(directory / WEIGHTS_FILE)
    return directory


async def test_weights_that_do_not_tell_their_format_need_one(llama_prm: Path) -> None:
    with pytest.raises(InputError, match=r"LlamaForCausalLM.*--verifier-format"):
        await load_verifier(str(llama_prm))
    verifier = await load_verifier(str(llama_prm), format="rlhflow")
    assert (verifier.info.format, verifier.info.aggregation) == ("rlhflow", "mean")
    assert len((await verifier.score(PATH)).values) == 2
    await verifier.aclose()


async def test_refusals(llama_prm: Path) -> None:
    with pytest.raises(InputError, match="qwen-prm"):
        await load_verifier(str(llama_prm), format="qwen-prn")
    with pytest.raises(InputError, match="vLLM cannot serve"):
        await load_verifier(str(llama_prm), format="rlhflow", engine="vllm")
    with pytest.raises(InputError, match="engine 'openai'"):
        await load_verifier(str(llama_prm), engine="openai")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trained heads"):
        await load_verifier(str(llama_prm), format="self")
    with pytest.raises(ModelError, match=r"score\.0\.weight"):
        await load_verifier(str(llama_prm), format="qwen-prm")


async def test_only_safetensors_are_loaded(llama_prm: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(llama_prm, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        await load_verifier(str(pickled), format="rlhflow")


async def test_weights_that_are_not_all_there_are_refused(llama_prm: Path, tmp_path: Path) -> None:
    partial = shutil.copytree(llama_prm, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights.*up_proj"):
        await load_verifier(str(partial), format="rlhflow")


async def test_a_tokenizer_without_a_chat_template_is_refused(
    llama_prm: Path, tmp_path: Path
) -> None:
    mute = shutil.copytree(llama_prm, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="chat template"):
        await load_verifier(str(mute), format="rlhflow")


async def test_a_head_of_another_width_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(tiny_checkpoint, tmp_path / "skywork")
    weights = load_file(whole / "model.safetensors")
    weights |= {"v_head.summary.weight": torch.ones(1, 64), "v_head.summary.bias": torch.ones(1)}
    save_file(weights, whole / "model.safetensors", {"format": "pt"})
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2ForPrmModel"]}))
    with pytest.raises(ModelError, match=r"shape \(1, 64\).*belongs to another model"):
        await load_verifier(str(whole))


@pytest.mark.parametrize("form", OWN)
async def test_states_that_the_generator_left_score_for_nothing(
    form: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = Prompt("letters", delimiter="e")  # noise has steps if a common letter ends them
    monkeypatch.setitem(PROMPTS, "letters", prompt)  # type: ignore[arg-type]
    generator = await TransformersGenerator.load(
        tiny_checkpoint, name="tiny", prompt=prompt, state_layer=LAYER
    )
    start = Chain(PATH.problem)
    sampled = await generator.sample(start, 2, Sampling(max_tokens=60, seed=0))
    await generator.aclose()
    head = save_head(tmp_path / "head", tiny_checkpoint, form, prompt="letters")

    ref = str(tiny_checkpoint)
    reading = await load_verifier(str(head), generator=GeneratorStates(ref, given=True))
    computing = await load_verifier(str(head), generator=GeneratorStates(ref))
    for continuation in sampled.continuations:
        path = start.extend(*continuation.steps)
        read = await reading.score(path, known=1)
        assert (read.tokens, len(read.values)) == (0, path.depth - 1)
        bare = start.extend(*(Step(s.text, s.finish, s.tokens, s.token_ids) for s in path.steps))
        computed = await computing.score(bare, known=1)
        assert computed.tokens
        # The generator computes in bfloat16, where the machine does.
        assert read.values == pytest.approx(computed.values, abs=0.03)
        assert max(read.values) - min(read.values) > 0.06
        # Steps without states, such as stored ones, are computed.
        fallen = await reading.score(bare, known=1)
        assert fallen.tokens
        assert fallen.values == pytest.approx(computed.values, abs=1e-5)
    await reading.aclose()
    await computing.aclose()


async def test_no_backbone_is_loaded_while_the_generator_gives_its_states(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("loaded a backbone")

    monkeypatch.setattr(TransformersVerifier, "load_on", forbidden)
    head = save_head(tmp_path / "head", tiny_checkpoint)
    states = GeneratorStates(str(tiny_checkpoint), given=True)
    verifier = await load_verifier(str(head), engine="transformers", generator=states)

    def path(hidden: int) -> Chain:
        state = StepState(*np.ones((2, hidden), dtype=np.float32), tokens=1)
        return Chain(PATH.problem).extend(Step("It is 5.", "stop", state=state))

    assert len((await verifier.score(path(128))).values) == 1
    with pytest.raises(VerifierError, match=r"reads states of width 128.*have 64"):
        await verifier.score(path(64))


async def test_a_head_is_known_by_its_weights_and_a_token_costs_what_it_runs_through(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    generator = GeneratorStates(str(tiny_checkpoint))
    first = save_head(tmp_path / "first", tiny_checkpoint)
    again = save_head(tmp_path / "again", tiny_checkpoint)
    other = save_head(tmp_path / "other", tiny_checkpoint)
    weights = load_file(other / WEIGHTS_FILE)
    weights["score.2.bias"] += 1e-3
    save_file(weights, other / WEIGHTS_FILE)
    infos = [
        (await load_verifier(str(head), engine="transformers", generator=generator)).info
        for head in (first, again, other)
    ]
    assert infos[0] == infos[1]
    assert infos[0].name.startswith("head@")
    assert infos[2].name != infos[0].name
    layer = AutoModel.from_pretrained(tiny_checkpoint).layers[0]
    used = sum(p.numel() for part in (layer, RewardHead(128)) for p in part.parameters())
    assert infos[0].parameters == used + 128  # and the final norm


async def test_a_trained_head_and_its_checkpoint_give_the_same_scores(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTER_CACHE", str(tmp_path / "cache"))
    directory = save_head(tmp_path / "head", tiny_checkpoint, form="qwen-prm")
    trained = await load_verifier(str(directory), generator=GeneratorStates(str(tiny_checkpoint)))
    assert trained.info.aggregation == "mean"  # the measured one, not the format's

    checkpoint = cached_checkpoint(tiny_checkpoint, directory)
    assert cached_checkpoint(tiny_checkpoint, directory) == checkpoint
    again = (await load_verifier(str(checkpoint))).info
    assert (again.name, again.format) == (trained.info.name, "qwen-prm")
    assert again.aggregation == "mean"
    whole = TransformersVerifier.load(
        checkpoint, get_format("qwen-prm"), trained.info, dtype=compute_dtype(tiny_checkpoint)
    )
    values = (await whole.score(PATH)).values
    assert values == pytest.approx((await trained.score(PATH)).values, abs=1e-5)
    assert abs(values[0] - values[1]) > 1e-3


async def test_a_head_for_another_generator_is_refused(
    tiny_checkpoint: Path, llama_prm: Path, tmp_path: Path
) -> None:
    head = save_head(tmp_path / "head", llama_prm)
    with pytest.raises(ModelError, match="was trained on"):
        await load_verifier(str(head), generator=GeneratorStates(str(tiny_checkpoint)))


async def test_a_corrupted_head_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    head = save_head(tmp_path / "head", tiny_checkpoint)
    file = head / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot read"):
        await load_verifier(str(head), generator=GeneratorStates(str(tiny_checkpoint)))
