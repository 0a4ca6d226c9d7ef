"""The clients that people use, on the real service."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.browser.tab import EXECUTABLE, chromium
from tests.service.clients.conftest import HERE, Tries, Try, python, ran
from tests.service.serving import CHAT, QUESTION

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

BODY = {"model": "fake@4", "messages": [{"role": "user", "content": QUESTION}]}

SCRIPTS = {
    "openai_sdk": ("OpenAI (Python)", "openai"),
    "langchain_sdk": ("LangChain (`langchain-openai`)", "langchain_openai"),
    "litellm_sdk": ("LiteLLM", "litellm"),
    "llm_cli": ("`llm`", "llm"),
    "pydantic_ai_sdk": ("Pydantic AI", "pydantic_ai"),
    "dspy_sdk": ("DSPy", "dspy"),
    "aiohttp_client": ("aiohttp", "aiohttp"),
}

IN_THE_PAGE = """
async ([url, body]) => {
  const ask = (headers, further) => fetch(url, {
    method: "POST", headers: {"Content-Type": "application/json", ...headers},
    body: JSON.stringify({...body, ...further}),
  });
  const whole = await (await ask({Authorization: "Bearer none"}, {})).json();
  const reader = (await ask({"X-Stainless-Lang": "js"}, {stream: true})).body
    .pipeThrough(new TextDecoderStream()).getReader();
  let streamed = "";
  for (let piece; !(piece = await reader.read()).done;) streamed += piece.value;
  const refused = await ask({}, {n: 2});
  const id = refused.headers.get("x-request-id");
  return [whole.choices[0].message.content, streamed, (await refused.json()).error.param, id];
}
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_python(script: str, url: str, tries: Tries) -> None:
    client, module = SCRIPTS[script]
    # LiteLLM would fetch a list of prices first.
    told = ran(python(module), f"{script}.py", url, LITELLM_LOCAL_MODEL_COST_MAP="True")
    tries.of(client, told)


def test_java(url: str, tries: Tries) -> None:
    if shutil.which("javac") is None:
        pytest.skip("there is no JDK: apt-get install default-jdk-headless")
    tries.of("Java's `HttpClient`", ran("java", "Client.java", url))


@pytest.mark.parametrize("options", [[], ["--http2"]], ids=["plain", "http2"])
def test_curl(options: list[str], url: str, tries: Tries) -> None:
    sent = ["-H", "Content-Type: application/json", "-d", json.dumps({**BODY, "stream": True})]
    done = subprocess.run(
        ["curl", "-sSN", *options, f"{url}{CHAT}", *sent], capture_output=True, text=True
    )
    assert done.stdout.endswith("data: [DONE]\n\n"), done.stderr
    version = ran("curl", "--version").split()[1]
    tries.append(Try("curl", version, " ".join(["chat, streamed", *options]), ""))


async def test_a_page_of_another_origin(url: str, origin: str, tries: Tries) -> None:
    if EXECUTABLE is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(origin)
        found = await page.evaluate(IN_THE_PAGE, [f"{url}{CHAT}", BODY])
        version = browser.version
    whole, streamed, param, request_id = found
    assert "boxed{54}" in whole
    assert streamed.endswith("data: [DONE]\n\n")
    assert (param, len(request_id)) == ("n", 32)
    for tried in ("chat with a key", "chat, streamed", "errors and their `x-request-id`"):
        tries.append(Try("Chromium, a page of another origin", version, tried, ""))


def test_all_scripts_are_tried() -> None:
    assert {path.stem for path in (HERE / "scripts").glob("*.py")} == {*SCRIPTS, "trying"}
