"""aiohttp, whose lines have a limit, reading a stream line by line."""

import asyncio
import json

import aiohttp
from trying import MODEL, QUESTION, URL, run


async def streamed(budget, trace):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "router": {"budget": budget, "trace": trace},
    }
    async with (
        aiohttp.ClientSession(read_bufsize=8192) as session,  # lines of up to 16 KB
        session.post(f"{URL}/v1/chat/completions", json=body) as response,
    ):
        lines = [line async for line in response.content]
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    text = "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]
    )
    assert "\\boxed{54}" in text


run(
    "aiohttp",
    {
        "chat, streamed": lambda: asyncio.run(streamed(4, False)),
        "64 candidates, streamed, lines of 16 KB at most": lambda: asyncio.run(streamed(64, False)),
        "the growing tree, lines of 16 KB at most": lambda: asyncio.run(streamed(64, True)),
    },
)
