"""A model that sees, and one that only reads, of the project's own writing, behind the gateway of the program."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib

from supervisor.model.demo import DEMO_ANSWER

from ..fakes.projectors import Projector, write_projector
from ..fakes.tiny_bert import write_bert
from .gateway_load import CHAT, Clients, demo_profile
from .test_serve import served

DEMO_WIDTH = 384


def png(side: int) -> bytes:
    """A red square."""
    rows = b"".join(b"\0" + b"\xff\0\0" * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


async def similarity(clients, one, other):
    """Of two texts: the cosine of their embeddings, which have length 1."""
    answer = await clients.ask("/v1/embeddings", {"input": [one, other]}).result()
    assert answer.status == 200, answer
    first, second = (each["embedding"] for each in json.loads(answer.body)["data"])
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_an_image_goes_to_the_model_that_sees_and_texts_to_the_bert(built_home, tmp_path):
    eyes, bert = tmp_path / "eyes.gguf", tmp_path / "bert.gguf"
    write_projector(eyes, Projector("gemma3", DEMO_WIDTH, merge=4))
    write_bert(bert)
    little = {"ctx-size": 2048, "parallel": 1, "cache-ram": 0}
    demo_profile(built_home, "sees", server={**little, "mmproj": str(eyes)})
    reads = {"ctx-size": 512, "parallel": 1, "cache-ram": 0, "embeddings": True}
    demo_profile(built_home, "base", server=reads)
    built_home.profile("reads", json.dumps({"extends": "base", "model": {"path": str(bert)}}))
    built_home.run("start", "sees", "reads", "--detach")
    clients = Clients(built_home.root, built_home.port)
    url = f"data:image/png;base64,{base64.b64encode(png(8)).decode()}"
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]

    async def run():
        await clients.until(lambda now: set(served(now).values()) == {"ready"})
        asked = {"messages": [{"role": "user", "content": content}]}
        answer = await clients.ask(CHAT, asked).result()
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        assert said["choices"][0]["message"]["content"] == DEMO_ANSWER
        asked["messages"][0]["content"] = content[:1]
        without = json.loads((await clients.ask(CHAT, asked).result()).body)
        assert said["usage"]["prompt_tokens"] > without["usage"]["prompt_tokens"]
        same = await similarity(clients, "cats sleep", "dogs sleep")
        assert await similarity(clients, "cats sleep", "money rains") < same < 1

    asyncio.run(run())
