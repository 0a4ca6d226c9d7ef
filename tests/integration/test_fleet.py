"""A fleet of two real models, tiny and random: fitted, killed in the middle, and asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.bundle import Bundle
from tests.stored_runs import stored_runs

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def says_ones_and_twos(tiny: Path, layers: int, directory: Path) -> Path:
    """A random model of so many layers whose only words are 1, 2 and the end: some are right."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, Qwen2ForCausalLM

    config, tokenizer = AutoConfig.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    config.num_hidden_layers, config.layer_types = layers, ["full_attention"] * layers
    torch.manual_seed(layers)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        # One dimension that is always there speaks against all others.
        model.model.embed_tokens.weight[:, 0] = 100
        model.lm_head.weight[:, 0] = -10
        words = [*tokenizer.convert_tokens_to_ids(["1", "2"]), tokenizer.eos_token_id]
        model.lm_head.weight[words, 0] = 0
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def test_a_killed_fit_of_two_models_goes_on_where_it_was(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    small = says_ones_and_twos(tiny_checkpoint, 2, tmp_path / "small")
    large = says_ones_and_twos(tiny_checkpoint, 8, tmp_path / "large")
    lines = [{"id": f"{i}", "problem": f"{i} of 2?", "answer": f"{1 + i % 2}"} for i in range(8)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    models = (
        *("--engine", "transformers", "--verifier", "none", "--prompt", "plain"),
        *("--model", f"small={small}", "--model", f"large={large}"),
        *("--max-tokens", "12"),
    )
    fit = (
        *(sys.executable, "-m", "cli", "fit", str(tmp_path / "p.jsonl"), *models),
        *("--out", str(tmp_path / "bundle"), "--budgets", "1,2,4", "--level-samples", "2"),
        *("--levels", "quantile:2", "--merge-levels", "--in-flight", "4"),
        *("--strategy", "best_of_n(select=majority)"),
        *("--strategy", "best_of_n(select=majority, model=large)"),
    )
    store = tmp_path / "bundle.rollouts.sqlite"
    process = subprocess.Popen(fit, cwd=ROOT)
    while not any("large" in run.configuration for run in stored_runs(store)):
        assert process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = stored_runs(store)
    subprocess.run(fit, cwd=ROOT, check=True)
    every = stored_runs(store)
    assert [run for run in every if run in kept] == kept
    assert len(kept) < len(every)
    members = Bundle.load(tmp_path / "bundle").table.members
    assert [one.name for one in members] == ["small", "large"]
    assert members[0].fingerprint != members[1].fingerprint is not None
    assert 0.5 < members[1].cost < 2  # the head weighs more than all layers
    solve = [sys.executable, "-m", "cli", "solve", "1 + 1?", *models, "--budget", "4", "--json"]
    text = "escalate(first=best_of_n(n=2, select=majority), lead=2, then=best_of_n(n=1,"
    text += " select=majority, model=large))"
    solve += ["--bundle", str(tmp_path / "bundle"), "--strategy", text]
    done = subprocess.run(solve, cwd=ROOT, capture_output=True, text=True, check=False)
    usage = json.loads(done.stdout)["usage"]
    assert usage["models"]["large"]["generations"] == 1
    assert usage["generations"] == pytest.approx(2 + members[1].cost)
