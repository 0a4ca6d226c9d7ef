"""Simon Willison's `llm`: its command, called in this process, and its library."""

import os
import tempfile
from pathlib import Path

from trying import ANSWER, MODEL, QUESTION, URL, run

home = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = home.name
entry = f"- model_id: router\n  model_name: {MODEL}\n  api_base: {URL}/v1\n  api_key_name: router\n"
Path(home.name, "extra-openai-models.yaml").write_text(entry)

import llm  # noqa: E402 (it reads where it lives)
from click.testing import CliRunner  # noqa: E402
from llm.cli import cli  # noqa: E402


def command(*arguments):
    done = CliRunner().invoke(cli, ["--key", "none", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert ANSWER in done.output


def library():
    conversation = llm.get_model("router").conversation()
    for _ in range(2):
        assert ANSWER in conversation.prompt(QUESTION, key="none", temperature=0.5).text()


run(
    "llm",
    {
        "a prompt, streamed": lambda: command("-m", "router", QUESTION),
        "a prompt, whole": lambda: command("-m", "router", "--no-stream", QUESTION),
        "with a system prompt": lambda: command("-m", "router", "-s", "Be brief.", QUESTION),
        "a conversation that goes on": lambda: command("-c", QUESTION),
        "a conversation, as a library": library,
    },
)
