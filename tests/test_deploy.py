"""compose.yaml and the Kubernetes manifest: valid, and of options that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.commands.serve import KEYS_VARIABLE, serve

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
MANIFEST = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))
NAMES = [f"{one['kind']} {one['metadata']['name']}" for one in MANIFEST]


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in MANIFEST:
        if one["kind"] == "Deployment":
            for container in one["spec"]["template"]["spec"]["containers"]:
                yield one["metadata"]["name"], container


def vllm_commands() -> Iterator[list[str]]:
    """The arguments of each `vllm serve`, with defaults in place of variables."""
    for service in ("generator", "verifier"):
        yield [
            re.sub(r"\$\{\w+:-(.*?)\}", r"\1", one)
            for one in COMPOSE["services"][service]["command"]
        ]
    yield from (one["args"] for name, one in containers() if name != "router")


@pytest.mark.parametrize("resource", MANIFEST, ids=NAMES)
def test_kubernetes_would_take_it(resource: dict[str, Any]) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_services_lead_to_ports_of_pods() -> None:
    pods = {}
    for one in MANIFEST:
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            assert one["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
            # Else Kubernetes sets ROUTER_PORT, and by it our --port.
            assert template["spec"]["enableServiceLinks"] is False
            (container,) = template["spec"]["containers"]
            pods[template["metadata"]["labels"]["app"]] = {p["name"] for p in container["ports"]}
    for one in MANIFEST:
        if one["kind"] == "Service":
            (port,) = one["spec"]["ports"]
            assert port["targetPort"] in pods[one["spec"]["selector"]["app"]]


def test_the_router_gets_options_that_there_are() -> None:
    known = {parameter.envvar for parameter in serve.params}
    composed = COMPOSE["services"]["router"]["environment"]
    ((_, container),) = [one for one in containers() if one[0] == "router"]
    set_there = {one["name"] for one in container["env"]}
    assert set_there == composed.keys()
    assert set_there - known == {KEYS_VARIABLE, "HF_HOME"}


def test_each_asks_the_other_by_its_name() -> None:
    ((_, container),) = [one for one in containers() if one[0] == "router"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    composed = COMPOSE["services"]["router"]["environment"]
    for name, server in (
        ("ROUTER_ENDPOINT", "generator"),
        ("ROUTER_VERIFIER_ENDPOINT", "verifier"),
    ):
        assert env[name] == composed[name] == f"http://{server}:8000"
        assert server in COMPOSE["services"]
        assert f"Service {server}" in NAMES


@pytest.mark.model
def test_vllm_takes_its_arguments() -> None:
    pytest.importorskip("vllm")
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    commands = list(vllm_commands())
    assert len(commands) == 4
    for command in commands:
        parsed = parser.parse_args(command)
        assert parsed.max_model_len == 4096
        if "PRM" in parsed.model:
            assert parsed.pooler_config.tok_pooling_type == "ALL"
