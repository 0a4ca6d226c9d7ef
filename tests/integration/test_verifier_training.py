"""`router verifier` from sampling to a verifier that scores, on a tiny random model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from router.cli import main
from router.models.errors import InputError, ModelError
from router.models.fakes import FakeGenerator, fake_problems
from router.models.prompts import get_prompt
from router.models.states import rms_normalised
from router.models.tokens import ChainEncoder
from router.models.training import features
from router.models.training.features import StateReader
from router.models.types import Chain, Problem, Sampling, Step
from router.models.usage import Usage
from router.models.verifiers.load import GeneratorStates, load_verifier
from router.models.verifiers.prm import get_format
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig
from router.models.weights.fingerprint import fingerprint
from router.rollouts.export import export_store
from router.rollouts.store import RolloutStore
from router.verifier.data import read_together
from router.verifier.scoring import Scorer
from tests.problem_file import problem_file

pytestmark = pytest.mark.model

SAMPLING = Sampling(max_tokens=300)


def router(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verifier", *map(str, arguments)])


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return problem_file(tmp_path_factory.mktemp("data") / "problems.jsonl", fake_problems(8))


def train(problems: Path, model: Path, out: Path, *more: object) -> Result:
    # The fake generator's tokens are bytes, which are token ids of the tiny model too.
    options = ("--engine", "fake", "--model", model, "--samples", 6, "--max-tokens", 300)
    return router("train", problems, "--out", out, *options, *more)


@pytest.fixture(scope="module")
def trained(
    problems: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("trained") / "head"
    result = train(problems, tiny_checkpoint, out, "--rollouts", 1)
    assert result.exit_code == 0, result.output
    assert "AUC inside problems, last step" in result.stdout
    return out


async def fresh_solution(seed: int = 9) -> Chain:
    problem = fake_problems(1, seed=seed)[0]
    sampled = await FakeGenerator().sample(Chain(problem), 1, SAMPLING)
    return Chain(problem).extend(*sampled.continuations[0].steps)


async def test_a_trained_head_scores_a_new_solution(trained: Path, tiny_checkpoint: Path) -> None:
    verifier = await load_verifier(
        str(trained), engine="transformers", generator=GeneratorStates(model=str(tiny_checkpoint))
    )
    path = await fresh_solution()
    scored = await verifier.score(path)
    await verifier.aclose()
    assert len(scored.values) == path.depth
    assert all(0 <= value <= 1 for value in scored.values)
    config = HeadConfig.load(trained)
    assert verifier.info.aggregation == config.aggregation
    assert config.provenance["problems"] == 8
    assert set(config.provenance["layers_tried"]) == {"1", "2"}


def test_every_step_prefix_was_completed_once(trained: Path) -> None:
    with RolloutStore.read(trained / "rollouts.sqlite") as store:
        inner = sum(len(c.steps) - 1 for _, pool in store.samples() for c in pool)
        completed = [run for run in store.runs() if run.configuration.startswith("completions")]
    assert inner == len(completed) > 0


def test_training_again_samples_and_computes_nothing_new(
    trained: Path, problems: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    stamps = {file: file.stat().st_mtime_ns for file in (again / "features").iterdir()}
    torn = next(iter(stamps))
    torn.write_bytes(torn.read_bytes()[:100])  # as a killed run might leave it
    (again / WEIGHTS_FILE).unlink()
    assert train(problems, tiny_checkpoint, again, "--rollouts", 1).exit_code == 0
    redone = [f for f, stamp in stamps.items() if f.stat().st_mtime_ns != stamp]
    assert redone == [torn]
    first, second = load_file(trained / WEIGHTS_FILE), load_file(again / WEIGHTS_FILE)
    assert all(torch.equal(first[name], second[name]) for name in first)


def evaluate(head: Path, model: Path, out: Path, *more: object) -> Result:
    options = ("--engine", "fake", "--model", model, "--max-tokens", 300)
    return router("evaluate", head, *more, "--out", out, *options)


def test_evaluation_samples_what_is_missing_measures_and_draws(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    unseen = problem_file(tmp_path / "unseen.jsonl", fake_problems(4, seed=5))
    out = tmp_path / "out"
    result = evaluate(trained, tiny_checkpoint, out, unseen, "--samples", 5, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["measured"]["problems"], record["measured"]["solutions"]) == (4, 20)
    assert 0 <= record["measured"]["within"]["last"]["value"] <= 1
    assert json.loads((out / "verifier.json").read_text()) == record
    assert (out / "verifier.html").read_text().startswith("<!doctype html>")
    assert len(list(out.glob("*.png"))) == 4
    # Again, with more samples: those there stay, and so do the features of a problem as it was.
    before = stored(out)
    assert evaluate(trained, tiny_checkpoint, out, unseen, "--samples", 7).exit_code == 0
    after = stored(out)
    assert all(after[name][:5] == before[name] and len(after[name]) == 7 for name in before)


def test_a_committed_file_of_rollouts_gives_the_same_evaluation_as_the_store(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rollouts.jsonl.gz"
    with RolloutStore.read(trained / "rollouts.sqlite") as store:
        export_store(store, file)
    records = []
    for source in (trained / "rollouts.sqlite", file):
        done = evaluate(
            trained, tiny_checkpoint, tmp_path / "out", "--from-rollouts", source, "--json"
        )
        assert done.exit_code == 0, done.output
        records.append(json.loads(done.stdout))
    assert records[0]["measured"] == records[1]["measured"]
    assert records[0]["data"] == records[1]["data"]
    assert not (tmp_path / "out" / "rollouts.sqlite").exists()


def stored(out: Path) -> dict[str, list[str]]:
    with RolloutStore.read(out / "rollouts.sqlite") as store:
        return {problem.id: [c.text for c in pool] for problem, pool in store.samples()}


def test_the_published_format_becomes_a_checkpoint_of_its_architecture(
    trained: Path, problems: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "qwen"
    source = ("--from-rollouts", trained / "rollouts.sqlite")
    result = train(problems, tiny_checkpoint, out, *source, "--format", "qwen-prm", "--layer", 1)
    assert result.exit_code == 0, result.output
    config = json.loads((out / "checkpoint" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForProcessRewardModel"]
    assert config["num_hidden_layers"] == 1


async def test_step_features_are_the_backbones_own_states(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared prefixes, cut layers, padding and concurrency must not change what is read."""
    monkeypatch.setattr(features, "_BATCH", 200)  # two rows in one batch, one in the next
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(tiny_checkpoint), get_prompt("plain"))
    paths = [await fresh_solution(seed) for seed in range(4)]
    layout = get_format("self").layout
    problems = []
    for path in paths:
        assert path.parent is not None
        rows = [path, path.parent, path.parent.extend(Step("So?", "stop"))]
        problems.append([layout.encode(row, encoder) for row in rows])
    reader = StateReader(tiny_checkpoint, (1, 2), tmp_path)
    found = list(reader.read_all(problems))
    model = AutoModel.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    model.norm = torch.nn.Identity()
    for encoded, states in zip(problems, found, strict=True):
        for layer in (1, 2):
            expected = []
            for entry in encoded:
                with torch.inference_mode():
                    output = model(torch.tensor([entry.ids]), output_hidden_states=True)
                states_of = output.hidden_states[layer][0]
                normal = rms_normalised(states_of)
                means = [
                    normal[min(entry.opening, read) : read + 1].mean(0) for read in entry.reads
                ]
                own = normal[list(entry.reads)]
                expected.append(torch.stack((own, torch.stack(means)), dim=1))
            read = torch.from_numpy(states[layer]).float()
            assert torch.allclose(read, torch.cat(expected), atol=0.1)
            assert read[:, 0].std(0).mean() > 0.2  # far more than the tolerance
    again = StateReader(tmp_path / "no model is needed", (1, 2), tmp_path)
    again.__dict__["_fingerprint"] = reader._fingerprint
    for first, second in zip(found, again.read_all(problems), strict=True):
        assert all(np.array_equal(first[layer], second[layer]) for layer in (1, 2))


def test_several_files_are_one_set_of_problems(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def end(said: str) -> dict[str, str]:
        return {"text": f"So {said}.", "finish_reason": "stop"}

    def samples(name: str, *rows: tuple[str, str, str]) -> Path:
        records = [
            {"id": id_, "problem": text, "answer": "1", "samples": [end(said)]}
            for id_, text, said in rows
        ]
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path / name

    encoder = ChainEncoder(AutoTokenizer.from_pretrained(tiny_checkpoint), get_prompt("plain"))
    first = samples("a.jsonl", ("x", "What?", "1"), ("y", "Why?", "1"))
    second = samples("b.jsonl", ("x", "What?", "2"), ("z", "Who?", "2"))
    pools = read_together([first, second], {}, encoder)
    read = {pool.problem.id: [c.text for c in pool.candidates] for pool in pools}
    assert read == {"x": ["So 1.", "So 2."], "y": ["So 1."], "z": ["So 2."]}
    changed = samples("c.jsonl", ("x", "What else?", "1"))
    with pytest.raises(InputError, match=r"c\.jsonl: problem 'x' has another text"):
        read_together([first, changed], {}, encoder)


def test_scores_that_a_store_has_of_the_head_are_not_computed_again(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """And of another verifier they are, one problem as well as all."""
    encoder = ChainEncoder(
        AutoTokenizer.from_pretrained(tiny_checkpoint), get_prompt(HeadConfig.load(trained).prompt)
    )
    scorer = Scorer.load(trained, tiny_checkpoint)
    first, *others = read_together([trained / "rollouts.sqlite"], {}, encoder)
    known = first.scored([(0.5,) * len(c.steps) for c in first.candidates])
    found = scorer.score([known, *others], encoder, tmp_path / "cache", lambda *_: None)
    assert found[0] == known
    assert all(pool.has_scores for pool in found)
    assert len(list((tmp_path / "cache").iterdir())) == len(others)

    candidates = tuple(candidate for pool in found for candidate in pool.candidates)
    with RolloutStore.read(trained / "rollouts.sqlite") as store:
        origin = replace(store.origin, verifier=scorer.name, format="self", aggregation="last")
    with RolloutStore.create(tmp_path / "scored.sqlite", origin) as store:
        store.add_problems([pool.problem for pool in found])
        for pool in found:
            store.add_samples(pool.problem.id, pool.candidates, Usage())
    for name, kept in ((scorer.name, candidates), ("another", None), (None, None)):
        pools = read_together([tmp_path / "scored.sqlite"], {}, encoder, name)
        scores = [c.scores for pool in pools for c in pool.candidates]
        assert scores == [c.scores if kept else None for c in candidates]


async def test_lora_makes_a_checkpoint_of_its_own(
    trained: Path, problems: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    source = ("--from-rollouts", trained / "rollouts.sqlite")
    form = ("--format", "qwen-prm", "--layer", 2, "--lora", 4)
    result = train(problems, tiny_checkpoint, out, *source, *form)
    assert result.exit_code == 0, result.output
    assert HeadConfig.load(out).provenance["lora"]["rank"] == 4
    assert "fake (" in result.stdout  # what it is worth on each source
    whole = out / "checkpoint"
    served = await load_verifier(str(whole), engine="transformers")
    head = await load_verifier(
        str(out), engine="transformers", generator=GeneratorStates(model=str(whole))
    )
    path = await fresh_solution()
    values = (await served.score(path)).values
    assert values == pytest.approx((await head.score(path)).values, abs=0.03)
    # The head belongs to what was saved, and is evaluated on it.
    assert HeadConfig.load(out).backbone.fingerprint == fingerprint(whole)
    assert evaluate(out, whole, tmp_path / "report", *source).exit_code == 0


def test_lora_is_refused_where_the_generators_own_states_are_read(
    problems: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    result = train(problems, tiny_checkpoint, tmp_path / "out", "--lora", 4)
    assert result.exit_code == 2
    assert "--format qwen-prm" in result.stderr


# -- bad input --------------------------------------------------------------------------------


def test_a_problem_too_long_for_the_model_is_skipped_and_named(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = Problem("endless", "1 + " * 5000 + "1", "5001")
    file = problem_file(tmp_path / "problems.jsonl", [*fake_problems(8), long])
    result = train(file, tiny_checkpoint, tmp_path / "out", "--layer", 1)
    assert result.exit_code == 0, result.output
    assert HeadConfig.load(tmp_path / "out").provenance["problems"] == 8
    assert "problem endless is skipped" in caplog.text


def test_problems_without_gold_answers_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(
        '{"id": "a", "problem": "1 + 1?", "answer": "2"}\n{"id": "b", "problem": "?"}\n'
    )
    result = train(file, tiny_checkpoint, tmp_path / "out")
    assert result.exit_code == 2
    assert "1 of 2 problems" in result.stderr
    assert "first: 'b', line 2" in result.stderr


def test_a_layer_that_does_not_exist_is_refused(
    problems: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    result = train(problems, tiny_checkpoint, tmp_path / "out", "--layer", 3)
    assert result.exit_code == 2
    assert "from 1 to 2, not '3'" in result.stderr


def test_problems_that_are_never_solved_teach_nothing(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    impossible = [replace(problem, answer="-1") for problem in fake_problems(3)]
    file = problem_file(tmp_path / "problems.jsonl", impossible)
    result = train(file, tiny_checkpoint, tmp_path / "out")
    assert result.exit_code == 2
    assert "3 only wrong ones" in result.stderr


@pytest.mark.parametrize("damage", ["corrupted", "another width"])
async def test_a_damaged_head_is_a_clear_error(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path, damage: str
) -> None:
    head = tmp_path / "head"
    shutil.copytree(trained, head, ignore=shutil.ignore_patterns("features", "*.sqlite*"))
    weights = load_file(head / WEIGHTS_FILE)
    if damage == "corrupted":
        (head / WEIGHTS_FILE).write_bytes(b"\xff" * 64)
    else:
        narrow = {name: tensor[..., :64].clone() for name, tensor in weights.items()}
        save_file(narrow, head / WEIGHTS_FILE)
    with pytest.raises(ModelError, match=r"cannot read|another model"):
        await load_verifier(
            str(head), engine="transformers", generator=GeneratorStates(model=str(tiny_checkpoint))
        )


def test_a_head_for_another_backbone_is_refused(
    trained: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    weights = load_file(other / "model.safetensors")
    weights = {name: tensor * 1.5 for name, tensor in weights.items()}
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    result = evaluate(
        trained, other, tmp_path / "out", "--from-rollouts", trained / "rollouts.sqlite"
    )
    assert result.exit_code == 1
    assert "was trained on" in result.stderr
