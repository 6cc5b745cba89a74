"""A container that runs llama-server, and what its launch is for the host: paths, port, environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from .meanings import canonical, of_variable
from .shell_words import Argument

_IMAGE = re.compile(r"llama[-_.]?(?:cpp|server)", re.IGNORECASE)
_OTHER_IMAGE = re.compile(r"vllm|sglang|ollama|text-generation|localai|koboldcpp|tabby", re.IGNORECASE)
_HAS_SERVER = re.compile(r"(?:^|[\s/\\\"'])llama[-_](?:cpp[-_])?server(?:\.exe)?(?=$|[\s\"'])")
_SWITCHES = {
    *("-d", "-i", "-t", "-P", "--detach", "--interactive", "--tty", "--rm", "--init", "--privileged"),
    *("--publish-all", "--read-only", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "--replace"),
    *("--quiet", "-q", "--disable-content-trust", "--rmi", "--tls-verify"),
}
_SHORT = re.compile(r"-([ditPq]{2,})")
_ENV = {"-e", "--env"}
_MOUNTS = {"-v", "--volume", "--mount"}
_PORTS = {"-p", "--publish"}
_FOLDER = {"-w", "--workdir"}
_SILENT = {"--name", "--rm", "--init", "--detach", "--interactive", "--tty", "--gpus", "--pull", "--replace"}
_DEFAULT_PORT = "8080"


class Launched(Protocol):
    """A launch that was found; see `FoundLaunch`."""

    words: list[Argument]
    env: dict[str, Argument]
    folder: str
    notes: list[str]


@dataclass(slots=True)
class Container:
    """``mounts`` are (host, inside), ``ports`` are (address, host, inside)."""

    image: str = ""
    entrypoint: list[Argument] = field(default_factory=list)
    command: list[Argument] = field(default_factory=list)
    env: dict[str, Argument] = field(default_factory=dict)
    mounts: list[tuple[Argument, str]] = field(default_factory=list)
    ports: list[tuple[str, str, str]] = field(default_factory=list)
    folder: str = ""
    left_out: list[str] = field(default_factory=list)

    def words(self) -> list[Argument]:
        """What it runs, with llama-server in front where the image does that; empty for anything else."""
        words = [*self.entrypoint, *self.command]
        if any(_HAS_SERVER.search(word.text) for word in words):
            return words
        if self.entrypoint or _OTHER_IMAGE.search(self.image):
            return []
        own = words[1:] if words and words[0].text in {"--server", "-s"} else words
        is_known = _IMAGE.search(self.image) is not None
        has_option = any(word.text in {"-m", "-hf", "-ngl", "--hf-repo", "--gpu-layers"} for word in own)
        if not (is_known or has_option or any(name.startswith("LLAMA_ARG_") for name in self.env)):
            return []
        return [Argument("llama-server"), *own]

    def add_env(self, text: Argument) -> None:
        """``NAME=value``; a name alone takes what the host has, which no text tells."""
        name, equals, value = text.text.partition("=")
        if equals:
            self.env[name] = replace(text, text=value)
        else:
            self.left_out.append(f"the variable {name}, which takes its value from the host")

    def add_mount(self, text: Argument) -> None:
        r"""``/host:/inside:ro``, ``C:\host:/inside`` or ``type=bind,source=/host,target=/inside``."""
        if "=" in text.text.split(":")[0] and "," in text.text:
            fields = dict(part.partition("=")[::2] for part in text.text.split(","))
            host = fields.get("source") or fields.get("src") or ""
            inside = fields.get("target") or fields.get("destination") or fields.get("dst") or ""
        else:
            found = re.match(r"((?:[A-Za-z]:[\\/])?[^:]*):([^:]+)", text.text)
            host, inside = found.groups() if found else ("", "")
        self.mount(replace(text, text=host), inside)

    def mount(self, host: Argument, inside: str) -> None:
        is_path = host.text.startswith(("/", "~", ".", "\\")) or re.match(r"[A-Za-z]:[\\/]", host.text)
        if inside and (is_path or host.unknown):
            self.mounts.append((host, inside.rstrip("/") or "/"))
        elif inside:
            self.left_out.append(f"the volume {host.text} at {inside}, which is no folder of the host")

    def add_port(self, text: str) -> None:
        """``8080:8000``, ``127.0.0.1:8080:8000/tcp``, ``[::1]:8080:8000``, ``8080``."""
        found = re.fullmatch(r"(?:(\[[^\]]*\]|[\d.]*\.[\d.]+|localhost):)?(?:(\d*):)?(\d+)(?:/\w+)?", text)
        if found:
            self.ports.append((found[1] or "", found[2] or "", found[3]))
        else:
            self.left_out.append(f"the port {text}")

    def apply(self, launch: Launched) -> None:
        """Say it as the host sees it."""
        given, env = as_options({**self.env, **launch.env})
        launch.env = env
        launch.words = [self._outside(word, launch) for word in [*given, *launch.words]]
        inside = launch.folder if launch.folder not in {"", "."} else self.folder
        launch.folder = self._mapped(inside) or "" if inside else ""
        self._publish(launch)
        if self.left_out:
            launch.notes.append(f"left out of the container's settings: {'; '.join(self.left_out)}")

    def _outside(self, word: Argument, launch: Launched) -> Argument:
        lead, equals, path = word.text.partition("=") if word.text.startswith("--") else ("", "", word.text)
        mapped = self._mapped(path) if "/" in path else None
        if mapped is None:
            return word
        host = next(host for host, inside in self.mounts if _is_under(path, inside))
        launch.notes.append(f"{path} in the container is {mapped} here")
        return replace(word, text=f"{lead}{equals}{mapped}", unknown=(*word.unknown, *host.unknown))

    def _mapped(self, path: str) -> str | None:
        """The longest mount counts."""
        for host, inside in sorted(self.mounts, key=lambda mount: -len(mount[1])):
            if _is_under(path, inside):
                rest = path[len(inside) :].strip("/") if inside != "/" else path.strip("/")
                separator = "\\" if "\\" in host.text else "/"
                return host.text.rstrip("/\\") + (separator + rest if rest else "")
        return None

    def _publish(self, launch: Launched) -> None:
        """The port and the address that clients of the host use."""
        port = _last_value(launch.words, "port") or _DEFAULT_PORT
        published = next((each for each in self.ports if each[2] == port), None)
        if published is None:
            return
        address, outside, _ = published
        if outside and outside != port:
            _set_value(launch.words, "port", outside)
        if address:
            _set_value(launch.words, "host", address.strip("[]"))
        elif _last_value(launch.words, "host") is None:
            launch.notes.append(
                "the container's port is open to the network, and the profile listens on 127.0.0.1 only; "
                "set listen.host to 0.0.0.0 if others are to use it"
            )


def _is_under(path: str, inside: str) -> bool:
    return (inside == "/" and path.startswith("/")) or path == inside or path.startswith(f"{inside}/")


def _positions(words: Sequence[Argument], name: str) -> list[int]:
    options = (
        (at, word.text.partition("=")[0]) for at, word in enumerate(words) if word.text.startswith("-")
    )
    return [at for at, option in options if canonical(option) == name]


def _last_value(words: Sequence[Argument], name: str) -> str | None:
    found = None
    for at in _positions(words, name):
        _, equals, attached = words[at].text.partition("=")
        found = attached if equals else words[at + 1].text if at + 1 < len(words) else None
    return found


def _set_value(words: list[Argument], name: str, value: str) -> None:
    for at in reversed(_positions(words, name)):
        del words[at : at + (1 if "=" in words[at].text else 2)]
    words += [Argument(f"--{name}"), Argument(value)]


def container_of_run(texts: Sequence[Argument]) -> Container | None:
    """``docker run …``; None where no image is named."""
    at = next(index for index, text in enumerate(texts) if text.text in {"run", "create"}) + 1
    container = Container()
    words = list(texts)
    while at < len(words):
        word = words[at]
        if not word.text.startswith("-"):
            container.image = word.text
            container.command = words[at + 1 :]
            return container
        name, equals, value = word.text.partition("=")
        at += 1
        if name in _SWITCHES or _SHORT.fullmatch(name):
            continue
        if not equals and re.match(r"-[a-zA-Z].", name) and not name.startswith("--"):
            name, value, equals = name[:2], name[2:], "attached"  # -p8080:8080, -eA=b
        if equals:
            given = replace(word, text=value)
        elif at < len(words):
            given = words[at]
            at += 1
        else:
            return None
        _take(container, name, given)
    return None


def _take(container: Container, name: str, given: Argument) -> None:
    if name in _ENV:
        container.add_env(given)
    elif name in _MOUNTS:
        container.add_mount(given)
    elif name in _PORTS:
        container.add_port(given.text)
    elif name in _FOLDER:
        container.folder = given.text
    elif name == "--entrypoint":
        container.entrypoint = [given] if given.text else []
    elif name not in _SILENT or (name == "--gpus" and given.text != "all"):
        container.left_out.append(f"{name} {given.text}")


_YES = {"1", "true", "on", "yes", "enabled"}


def as_options(env: Mapping[str, Argument]) -> tuple[list[Argument], dict[str, Argument]]:
    """The variables by which llama-server takes options (LLAMA_ARG_…) as options, and all others."""
    words: list[Argument] = []
    others: dict[str, Argument] = {}
    for name, value in env.items():
        option = of_variable(name) if name.startswith("LLAMA_ARG_") else None
        if option is None:
            others[name] = value
        elif option.takes_value:
            words += [Argument(option.long_name), value]
        else:
            spellings = option.names if value.text.lower() in _YES else option.negative_names
            words += [Argument(spellings[-1])] if spellings else []
    return words, others
