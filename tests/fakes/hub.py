"""
The Hugging Face hub on loopback: its list of files, its download addresses, and the other host that has them.

    with FakeHub() as hub:
        hub.add("me/tiny-GGUF", {"tiny.gguf": b"…", "README.md": b"…"})
        subprocess.run([…], env={…, **hub.env})
        hub.storage.fault(hub.stored("me/tiny-GGUF", "tiny.gguf"), cut(1000), corrupt(3))
        hub.gate("me/tiny-GGUF", token="hf_x")          # asks for this token
        hub.ranges("tiny.gguf")                         # what was asked for of it, in order

``api`` and ``storage`` are `Web`; they are two hosts, since they listen on two ports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from supervisor.model import demo
from supervisor.model.demo import tensors
from supervisor.model.gguf import NAMED, GGUFValue, Tensor, Typed, ValueType
from supervisor.model.gguf_writer import write_gguf

from .web import Handler, Reply, Request, Web, file, json_page

SPLIT = ("demo-00001-of-00002.gguf", "demo-00002-of-00002.gguf")


class FakeHub:
    def __init__(self, page_size: int = 1000) -> None:
        self.api, self.storage = Web(), Web()
        self._page_size = page_size
        self._entries: dict[str, list[dict[str, Any]]] = {}
        self._tokens: dict[str, str] = {}
        self.found: dict[str, dict[str, Any]] | None = {}  # what a search finds; None: there is none
        self.api.serve("/*", self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.api.close()
        self.storage.close()

    @property
    def env(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.api.url()}

    # What there is

    def add(self, repo: str, files: Mapping[str, bytes]) -> None:
        """A repository; what is a .gguf is stored apart, as git-lfs does, and has a digest."""
        self._entries[repo] = [{"type": "directory", "path": "folder", "size": 0, "oid": "0" * 40}]
        for path, body in files.items():
            entry = {"type": "file", "path": path, "size": len(body), "oid": "1" * 40}
            if path.endswith(".gguf"):
                entry["lfs"] = {"oid": sha256(body).hexdigest(), "size": len(body), "pointerSize": 135}
            self._entries[repo].append(entry)
            self.storage.serve(self.stored(repo, path), content(body))

    def gate(self, repo: str, token: str) -> None:
        """Its files are for who comes with this token; that they exist, everybody may see."""
        self._tokens[repo] = token

    def tree(self, repo: str) -> str:
        """The path of its list of files."""
        return f"/api/models/{repo}/tree/main"

    def resolve(self, repo: str, path: str) -> str:
        """The path of a file at the hub."""
        return f"/{repo}/resolve/main/{quote(path)}"

    def stored(self, repo: str, path: str) -> str:
        """The path of a file at the other host."""
        return f"/stored/{repo}/{quote(path)}"

    # What was asked for

    def ranges(self, name: str) -> list[str | None]:
        asked = (each for each in self.storage.requests if each.path.endswith(f"/{quote(name)}"))
        return [each.headers.get("range") for each in asked]

    def _answer(self, request: Request) -> Reply:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/main", request.path):
            return self._list(found[1], request)
        if request.path == "/api/models" and self.found is not None:
            fits = [repo for repo in self.found if request.query["search"].split()[0] != "xyzzy"]
            return json_page([{"id": repo, **self.found[repo]} for repo in fits])(request)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", request.path):
            return self._redirect(found[1], unquote(found[2]), request)
        return _refused(404, "EntryNotFound")

    def _list(self, repo: str, request: Request) -> Reply:
        if repo not in self._entries:
            return _refused(401, "RepoNotFound", "Invalid username or password.")
        assert request.query["recursive"] == "true"
        start = int(request.query.get("cursor", "0"))
        end = start + self._page_size
        more = end < len(self._entries[repo])
        url = f"{self.api.url(self.tree(repo))}?recursive=true&cursor={end}"
        headers = {"Link": f'<{url}>; rel="next"'} if more else {}
        return json_page(self._entries[repo][start:end], headers=headers)(request)

    def _redirect(self, repo: str, path: str, request: Request) -> Reply:
        if all(entry["path"] != path for entry in self._entries.get(repo, [])):
            return _refused(404, "EntryNotFound", "Entry not found")
        token = self._tokens.get(repo)
        sent = request.headers.get("authorization")
        if token and sent != f"Bearer {token}":
            return _refused(403 if sent else 401, "GatedRepo", "Access to this model is restricted.")
        return Reply(302, {"Location": f"{self.storage.url(self.stored(repo, path))}?signed=1"})


def content(body: bytes) -> Handler:
    """As ``file``, and ranges that end before the file does as well."""
    whole = file(body)

    def answer(request: Request) -> Reply:
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        reply = whole(request)
        if span is None:
            return reply
        piece = body[int(span[1]) : int(span[2]) + 1]
        told = f"bytes {span[1]}-{int(span[1]) + len(piece) - 1}/{len(body)}"
        return replace(reply, status=206, headers={**reply.headers, "Content-Range": told}, body=piece)

    return answer


def split_demo(folder: Path) -> dict[str, bytes]:
    """The demo model in two files, as llama-gguf-split writes them, by name."""
    whole = list(_demo_tensors())
    half = len(whole) // 2
    values = demo._values(demo._tokens(demo._script()))
    for number, (name, part) in enumerate(zip(SPLIT, (whole[:half], whole[half:]), strict=True)):
        split: dict[str, GGUFValue] = {
            "split.no": Typed(ValueType.UINT16, number),
            "split.count": Typed(ValueType.UINT16, len(SPLIT)),
            "split.tensors.count": Typed(ValueType.INT32, len(whole)),
        }
        write_gguf(folder / name, {**(values if number == 0 else {}), **split}, part)
    return {name: (folder / name).read_bytes() for name in SPLIT}


def _demo_tensors() -> list[Tensor]:
    script = demo._script()
    tokens = demo._tokens(script)
    data = demo._weights(demo._successors(script, tokens))
    shapes = tensors(demo._SHAPE, len(tokens), dense=NAMED["f32"])
    return [replace(tensor, data=(data[tensor.name],) if tensor.name in data else None) for tensor in shapes]


def _refused(status: int, code: str, message: str = "") -> Reply:
    return Reply(status, {"X-Error-Code": code, "X-Error-Message": message}, message.encode())
