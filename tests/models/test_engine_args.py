"""Arguments for vLLM's engines: how they are written, and which are refused."""

from __future__ import annotations

import os
from typing import Any

import pytest

from router.models.errors import InputError
from router.models.runtime import vllm_process
from router.models.runtime.engine_args import OURS, check_engine_args, parse_engine_args


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("dtype=float16", {"dtype": "float16"}),
        ("max_model_len=8192", {"max_model_len": 8192}),
        ("gpu_memory_utilization=0.5", {"gpu_memory_utilization": 0.5}),
        ("enforce_eager=true", {"enforce_eager": True}),
        ("quantization=null", {"quantization": None}),
        ("device_ids=[1]", {"device_ids": [1]}),
        ('hf_overrides={"a": 1}', {"hf_overrides": {"a": 1}}),
        ("served_model_name=a=b", {"served_model_name": "a=b"}),
    ],
)
def test_values_are_json_where_they_parse_else_text(pair: str, value: dict[str, Any]) -> None:
    assert parse_engine_args("--engine-arg", [pair]) == value


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["dtype"], r"--engine-arg 'dtype': write KEY=VALUE"),
        (["=1"], "write KEY=VALUE"),
        (["dtype=half", "dtype=auto"], "dtype is given twice"),
    ],
)
def test_what_is_no_pair_is_refused(pairs: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_engine_args("--engine-arg", pairs)


@pytest.mark.parametrize("key", sorted(OURS))
def test_what_we_set_ourselves_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"--verifier-arg {key} cannot be changed: "):
        check_engine_args("--verifier-arg", {key: 1})


def test_no_arguments_import_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_process, "engine_arg_names", lambda: pytest.fail("imported"))
    check_engine_args("--engine-arg", {})


def test_the_installed_vllm_knows_what_we_name() -> None:
    pytest.importorskip("vllm")
    before = dict(os.environ)
    check_engine_args(
        "--engine-arg",
        {
            "tensor_parallel_size": 2,
            "quantization": "fp8_per_tensor",
            "dtype": "auto",
            "max_model_len": 1,
            "gpu_memory_utilization": 0.5,
            "device_ids": [0],
            "kv_cache_dtype": "fp8",
        },
    )
    with pytest.raises(InputError, match="did you mean 'tensor_parallel_size'"):
        check_engine_args("--engine-arg", {"tensor_paralel_size": 2})
    assert vllm_process.engine_arg_names() >= OURS.keys()
    assert {key for key in os.environ if key.startswith("VLLM_")} == {
        key for key in before if key.startswith("VLLM_")
    }
