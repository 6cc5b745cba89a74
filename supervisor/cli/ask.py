"""``ask``: one question to the model that runs, streamed to the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ..errors import NetworkError, NotRunning
from ..home import client
from ..paths import Paths
from .output import waiting

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A piece of the answer, or the timings at its end."""

    reasoning: str = ""
    text: str = ""
    timings: dict[str, Any] | None = None


@click.command()
@click.argument("question", nargs=-1, required=True)
@click.option("--reasoning-effort", type=click.Choice(["low", "medium", "high"]), help="How long it thinks.")
@click.option("--no-reasoning", is_flag=True, help="Show only the final answer.")
def ask(question: tuple[str, ...], reasoning_effort: str | None, no_reasoning: bool) -> None:
    """Ask the model that runs one QUESTION; the answer is streamed, tokens per second stand at the end."""
    running = client.ask(Paths.from_environment(), {"op": "running"})
    if running["url"] is None:
        raise NotRunning("The daemon runs no server.", hint="goss-supervisor start --profile demo")
    body: dict[str, Any] = {"messages": [{"role": "user", "content": " ".join(question)}], "stream": True}
    if reasoning_effort:
        body["reasoning_effort"] = reasoning_effort
        body["chat_template_kwargs"] = {"reasoning_effort": reasoning_effort}
    _show(_answers(running["url"], running["key"], body), reasoning=not no_reasoning)


def _show(answers: Iterator[StreamedAnswer], *, reasoning: bool) -> None:
    """The answer on stdout, so that it can be piped; thoughts and timings on stderr."""
    with waiting("reading the question"):
        first = next(answers, StreamedAnswer())
    thinking = False
    for answer in chain([first], answers):
        if answer.reasoning and reasoning:
            click.echo(click.style(answer.reasoning, dim=True), nl=False, err=True)
            thinking = True
        if answer.text:
            click.echo("\n\n" if thinking else "", nl=False, err=True)
            click.echo(answer.text, nl=False)
            thinking = False
        if speed := _speed(answer.timings or {}):
            click.echo()
            click.echo(speed, err=True)


def _speed(timings: Mapping[str, Any]) -> str:
    """What there is of llama-server's figures; another engine may have only some of them, or none."""
    written, prompt = _rate(timings, "predicted"), _rate(timings, "prompt")
    return f"{written} (prompt: {prompt})" if written and prompt else written


def _rate(timings: Mapping[str, Any], what: str) -> str:
    count, per_second = timings.get(f"{what}_n"), timings.get(f"{what}_per_second")
    known = isinstance(count, int) and isinstance(per_second, int | float)
    return f"{count} tokens, {per_second:.1f} tok/s" if known else ""


def _answers(url: str, key: str, body: dict[str, Any]) -> Iterator[StreamedAnswer]:
    """Of one chat completion.  Raises NetworkError, also for a stream that ends before its answer does."""
    import requests  # noqa: PLC0415 - the only command that needs it

    session, timeout = _session(url, key), (CONNECT_SECONDS, None)
    try:
        with session.post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=timeout) as response:
            if not response.ok:
                raise NetworkError(f"The server answered {response.status_code}: {response.text.strip()}")
            yield from _events(response.iter_lines())
    except requests.RequestException as error:
        why = "." if isinstance(error, requests.ConnectionError) else f": {error}"
        raise NetworkError(f"{url} does not answer{why}", hint="goss-supervisor status") from error


def _session(url: str, key: str) -> requests.Session:
    """
    No proxy between us and our own server, and no check of its certificate, which is for other names.

    Raises NetworkError for a Unix socket, which requests cannot speak to.
    """
    import requests  # noqa: PLC0415 - see above
    import urllib3  # noqa: PLC0415 - comes with requests

    if url.startswith("unix:"):
        path = url.removeprefix("unix://")
        raise NetworkError(
            f"The server listens on the Unix socket {path}, and ask speaks to hosts and ports only.",
            hint=f"curl --unix-socket {path} http://localhost/v1/models",
        )
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session = requests.Session()
    session.trust_env = session.verify = False
    session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
    return session


def _events(lines: Iterator[bytes]) -> Iterator[StreamedAnswer]:
    for line in lines:
        if line == b"data: [DONE]":
            return
        if line.startswith(b"data: "):
            yield _answer(json.loads(line[6:]))
        elif line.startswith(b"error: "):
            raise NetworkError(f"The server broke off: {line[7:].decode(errors='replace')}")
    raise NetworkError("The answer broke off before its end.", hint="goss-supervisor status")


def _answer(event: dict[str, Any]) -> StreamedAnswer:
    if "error" in event:
        raise NetworkError(f"The server broke off: {event['error'].get('message', event['error'])}")
    delta = event["choices"][0]["delta"] if event.get("choices") else {}
    return StreamedAnswer(
        delta.get("reasoning_content") or "", delta.get("content") or "", event.get("timings")
    )
