"""``ask``: one question to a model, streamed to the terminal; `chat` asks many of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from ..errors import NetworkError, NotFound, NotRunning, SupervisorError, UsageError
from ..home import client
from ..paths import Paths
from .common import Function, json_option
from .output import echo_json, waiting
from .words_of_status import peers_of

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
# A base model has no word for the end of its answer: it writes the next turn itself, and goes on and on.
BASE_TOKENS = 512
BASE_STOPS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "\nUser:", "\nHuman:", "### Instruction")
_TEMPLATE_OPTIONS = {"--chat-template", "--chat-template-file"}
_LONGEST_REFRAIN, _REFRAINS, _LEAST_REPEATED = 200, 6, 300  # letters, times, letters in all
_PATIENCE = 4  # times as much from a model that may have been told to
_REPEATS = "repeats"


@dataclass(frozen=True, slots=True)
class ChatServer:
    """Where to ask; ``is_base``: the model was not trained to answer."""

    url: str
    key: str
    model: str | None = None
    is_base: bool = False

    def body(self, messages: list[dict[str, str]], wishes: ChatWishes) -> dict[str, Any]:
        """The body of a request for a chat completion."""
        system = [{"role": "system", "content": wishes.system}] if wishes.system else []
        body: dict[str, Any] = {"messages": [*system, *messages], "stream": True}
        if self.model:
            body["model"] = self.model
        if self.is_base:
            body |= {"stop": list(BASE_STOPS), "max_tokens": BASE_TOKENS}
        if wishes.max_tokens:
            body["max_tokens"] = wishes.max_tokens
        if effort := wishes.reasoning_effort:
            body |= {"reasoning_effort": effort, "chat_template_kwargs": {"reasoning_effort": effort}}
        return body


@dataclass(frozen=True, slots=True)
class ChatWishes:
    """The values of the options of `ask` and `chat`."""

    model: str | None = None
    system: str = ""
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    no_reasoning: bool = False


@dataclass(slots=True)
class StreamedAnswer:
    """A piece of the answer, or why and with which timings it ended; or all of that so far."""

    reasoning: str = ""
    text: str = ""
    finish: str = ""
    model: str = ""
    timings: dict[str, Any] = field(default_factory=dict)

    def add(self, piece: StreamedAnswer) -> None:
        self.reasoning += piece.reasoning
        self.text += piece.text
        self.finish = piece.finish or self.finish
        self.model = piece.model or self.model
        self.timings = piece.timings or self.timings


def chat_options(command: Function) -> Function:
    """Adds the options that `ask`, `chat` and `run` share."""
    for option in reversed(
        (
            click.option(
                "--system",
                default="",
                metavar="TEXT",
                help="System prompt: what the model should know about its task.",
            ),
            click.option(
                "--max-tokens", type=click.IntRange(min=1), help="Limit the length of the answer, in tokens."
            ),
            click.option(
                "--reasoning-effort",
                type=click.Choice(["low", "medium", "high"]),
                help="How much the model thinks.",
            ),
            click.option("--no-reasoning", is_flag=True, help="Show only the final answer."),
        )
    ):
        command = option(command)
    return command


model_option = click.option(
    "--model", "-m", metavar="NAME", help="Model to ask: a served profile, or an alias of one."
)


@click.command()
@click.argument("question", nargs=-1)
@model_option
@chat_options
@json_option
def ask(*, question: tuple[str, ...], as_json: bool, **wishes: Any) -> None:  # noqa: ANN401 - see ChatWishes
    """
    Ask the running model one QUESTION, and show the speed after the answer.

    Text on standard input becomes part of the question: git diff | goss-supervisor ask "What changes here?"
    """
    ask_once(Paths.from_environment(), question, ChatWishes(**wishes), as_json=as_json)


def ask_once(paths: Paths, words: tuple[str, ...], wishes: ChatWishes, *, as_json: bool = False) -> None:
    """Raises NotRunning, UsageError where there is no question, and as `answers` does."""
    server = chat_server(paths, wishes.model)
    body = server.body([{"role": "user", "content": _question(words)}], wishes)
    if as_json:
        said = StreamedAnswer()
        for piece in answers(server, body):
            said.add(piece)
        echo_json(
            model=said.model,
            answer=said.text,
            reasoning=said.reasoning,
            finish_reason=said.finish,
            timings=said.timings,
        )
    else:
        show(answers(server, body), StreamedAnswer(), reasoning=not wishes.no_reasoning)


def _question(words: tuple[str, ...]) -> str:
    """The words, and under them what comes on standard input."""
    given = "" if words == ("-",) else " ".join(words)
    piped = (
        "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read().decode(errors="replace")
    )
    question = "\n\n".join(filter(None, (given, piped.strip())))
    if not question:
        hint = 'goss-supervisor ask "What are you?"; goss-supervisor chat for more than one question'
        raise UsageError("There is no question.", hint=hint)
    return question


def chat_server(paths: Paths, model: str | None) -> ChatServer:
    """Raises NotRunning, and NotFound for a model that clients cannot ask for here."""
    running = client.ask(paths, {"op": "running"})
    if running["url"] is None:
        raise NotRunning("The daemon runs no server.", hint="goss-supervisor start --profile demo")
    offers = (running.get("listen") or {}).get("offers", ())
    names = {name.lower() for offer in offers for name in (offer["profile"], *offer["names"])}
    down = set[str]()
    if model and names:  # what was loaded next to it is offered, too
        status = client.ask(paths, {"op": "status"})["status"]
        servers = status.get("servers", ())
        down = {each["name"] for each in peers_of(status) if each["state"] == "down"}
        names |= {
            name.lower() for each in servers for name in (each["profile"] or "", *each.get("aliases", ()))
        }
    is_known = not (model and names) or {model.lower(), model.lower().rpartition(":")[0]} & names
    peers = [each["name"] for each in (running.get("listen") or {}).get("peers", ())]
    if model and not is_known and not (peers and _is_at_peer(running, model, peers)):
        others = others_of(peers, down)
        raise NotFound(
            f"No model called {model} is served here: there is {', '.join(sorted(names))}{others}.",
            hint=f"goss-supervisor run {model}, or goss-supervisor load {model}",
        )
    plan = running.get("plan") or {}
    is_main = model is None or model == plan.get("profile") or model in plan.get("aliases", ())
    return ChatServer(running["url"], running["key"], model, is_base=is_main and _is_base(plan, paths))


def others_of(peers: Iterable[str], down: Container[str]) -> str:
    """The end of a sentence that lists the models of this computer."""
    told = ", ".join(f"{name} (down)" if name in down else name for name in peers)
    return f", and what the peers {told} have" if told else ""


def _is_at_peer(running: Mapping[str, Any], model: str, peers: list[str]) -> bool:
    """As the gateway knows it.  What begins with a peer's name it answers, or refuses with the reason."""
    import requests  # noqa: PLC0415 - see below

    if model.partition("/")[0].lower() in map(str.lower, peers):
        return True
    session = _session(ChatServer(running["url"], running["key"]))
    with suppress(requests.RequestException):
        names = (model, model.rpartition(":")[0] or model)
        found = (
            session.get(f"{running['url']}/v1/models/{quote(name)}", timeout=CONNECT_SECONDS)
            for name in names
        )
        return any(each.ok for each in found)
    return False


def _is_base(plan: Mapping[str, Any], paths: Paths) -> bool:
    """Whether the model's file has no chat template, and no option gives it one."""
    from ..model.open import open_model  # noqa: PLC0415 - as requests below

    if _TEMPLATE_OPTIONS & set(plan.get("argv", ())) or not str(plan.get("model", "")).endswith(".gguf"):
        return False
    with suppress(SupervisorError):  # an engine may read what we cannot
        return (
            "tokenizer.chat_template" not in open_model(Path(plan["model"]), paths.cache / "headers").values
        )
    return False


def show(pieces: Iterator[StreamedAnswer], said: StreamedAnswer, *, reasoning: bool) -> None:
    """
    The answer on stdout, so that it can be piped; thoughts and timings on stderr.

    ``said`` has what came, also where this is interrupted.
    """
    with waiting("reading the question"):
        first = next(pieces, StreamedAnswer())
    thinking = False
    for piece in chain([first], pieces):
        said.add(piece)
        if piece.reasoning and reasoning:
            click.echo(click.style(piece.reasoning, dim=True), nl=False, err=True)
            thinking = True
        if piece.text:
            click.echo("\n\n" if thinking else "", nl=False, err=True)
            click.echo(piece.text, nl=False)
            thinking = False
    click.echo()
    for line in _ending(said):
        click.echo(line, err=True)


def _ending(said: StreamedAnswer) -> Iterator[str]:
    if said.finish == _REPEATS:
        yield "stopped: it repeats itself. A base model does that; an instruct model answers questions."
    if said.finish == "length":
        yield "cut off: the answer is longer than --max-tokens or the context allows"
    if speed := _speed(said.timings):
        yield speed


def _speed(timings: Mapping[str, Any]) -> str:
    """What there is of llama-server's figures; another engine may have only some of them, or none."""
    written, prompt = _rate(timings, "predicted"), _rate(timings, "prompt")
    return f"{written} (prompt: {prompt})" if written and prompt else written


def _rate(timings: Mapping[str, Any], what: str) -> str:
    count, per_second = timings.get(f"{what}_n"), timings.get(f"{what}_per_second")
    known = isinstance(count, int) and isinstance(per_second, int | float)
    return f"{count} tokens, {per_second:.1f} tok/s" if known else ""


def answers(server: ChatServer, body: Mapping[str, Any]) -> Generator[StreamedAnswer]:
    """
    Of one chat completion, until it ends or repeats itself.

    Raises NetworkError, also for a stream that ends before its answer does.
    """
    return until_it_repeats(_streamed(server, body), patience=1 if server.is_base else _PATIENCE)


def until_it_repeats(pieces: Iterable[StreamedAnswer], patience: int = 1) -> Generator[StreamedAnswer]:
    """What goes round in a circle is broken off: that is what a base model does until its context is full."""
    tail = ""
    for piece in pieces:
        yield piece
        tail = (tail + piece.text)[-2 * _LONGEST_REFRAIN * _REFRAINS * patience :]
        if piece.text and goes_in_circles(tail, patience):
            yield StreamedAnswer(finish=_REPEATS)
            return


def goes_in_circles(text: str, patience: int = 1) -> bool:
    """Whether it ends in the same words again and again; rulers and columns of digits have no words."""
    refrains, least = _REFRAINS * patience, _LEAST_REPEATED * patience
    for length in range(1, min(_LONGEST_REFRAIN, len(text) // refrains) + 1):
        refrain = text[-length:]
        times = max(refrains, -(-least // length))
        if text.endswith(refrain * times):
            return sum(map(str.isalpha, refrain)) * 2 > length
    return False


def said_by(response: requests.Response) -> str:
    """The message of an error in OpenAI's form, else all of it."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text.strip()


def _streamed(server: ChatServer, body: Mapping[str, Any]) -> Iterator[StreamedAnswer]:
    import requests  # noqa: PLC0415 - only the commands that ask need it

    session, timeout = _session(server), (CONNECT_SECONDS, None)
    address = f"{server.url}/v1/chat/completions"
    try:
        with session.post(address, json=body, stream=True, timeout=timeout) as response:
            if not response.ok:
                raise NetworkError(f"The server answered {response.status_code}: {said_by(response)}")
            yield from _events(response.iter_lines())
    except requests.RequestException as error:
        why = "." if isinstance(error, requests.ConnectionError) else f": {error}"
        raise NetworkError(f"{server.url} does not answer{why}", hint="goss-supervisor status") from error


def _session(server: ChatServer) -> requests.Session:
    """
    No proxy between us and our own server, and no check of its certificate, which is for other names.

    Raises NetworkError for a Unix socket, which requests cannot speak to.
    """
    import requests  # noqa: PLC0415 - see above
    import urllib3  # noqa: PLC0415 - comes with requests

    if server.url.startswith("unix:"):
        path = server.url.removeprefix("unix://")
        raise NetworkError(
            f"The server listens on the Unix socket {path}, but ask needs a host and a port.",
            hint=f"curl --unix-socket {path} http://localhost/v1/models",
        )
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session = requests.Session()
    session.trust_env = session.verify = False
    session.headers.update({"Authorization": f"Bearer {server.key}"} if server.key else {})
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
    choice = event["choices"][0] if event.get("choices") else {}
    delta = choice.get("delta") or {}
    return StreamedAnswer(
        delta.get("reasoning_content") or "",
        delta.get("content") or "",
        choice.get("finish_reason") or "",
        event.get("model") or "",
        event.get("timings") or {},
    )
