"""``chat`` and ``run``: a conversation with a model; ``run`` starts it first where that is needed."""

from __future__ import annotations

import re
import sys
from contextlib import closing, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import click

from ..errors import NetworkError, NotRunning, SupervisorError, UsageError
from ..files import replace_file
from ..home import client
from ..home.places import chat_history_file
from ..paths import Paths
from .ask import (
    ChatServer,
    ChatWishes,
    StreamedAnswer,
    answers,
    ask_once,
    chat_options,
    chat_server,
    model_option,
    show,
)
from .common import complete_profiles, force_option, parse_settings, set_option
from .output import show_outcome, waiting_for_the_daemon

_KEPT_LINES = 1000
_QUOTES = '"""'
_LEAVE = {"/bye", "/exit", "/quit"}
_HELP = f"""\
/clear  forget the conversation
/bye    leave; Ctrl+D does it too
Ctrl+C stops an answer.  A \\ at the end of a line continues it; {_QUOTES} begins and ends several lines."""


@click.command()
@model_option
@chat_options
def chat(**wishes: Any) -> None:  # noqa: ANN401 - see ChatWishes
    """
    Chat with the running model; it sees the whole conversation.

    /clear starts a new conversation, /bye or Ctrl+D leaves, Ctrl+C stops an answer.  A backslash at the end
    of a line continues the input on the next one; three double quotes begin and end input of several lines.
    """
    converse(Paths.from_environment(), ChatWishes(**wishes))


@click.command()
@click.argument(
    "profile", metavar="[PROFILE|OWNER/REPO[:QUANT]]", required=False, shell_complete=complete_profiles
)
@click.argument("question", nargs=-1)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the first download.")
@force_option
@set_option
@chat_options
def run(
    *,
    profile: str | None,
    question: tuple[str, ...],
    yes: bool,
    force: bool,
    settings: tuple[str, ...],
    **wishes: Any,  # noqa: ANN401 - see ChatWishes
) -> None:
    """
    Start PROFILE if it is not running, and chat with it.

    OWNER/REPO or OWNER/REPO:Q4_K_M is a model of the Hugging Face hub; run makes a profile for it first.
    If other models are running, load makes room for it or puts it next to them.  Without a PROFILE, run uses
    the running model, or the profile that start would choose.  With a QUESTION, as an argument or on standard
    input, it prints the answer and ends.  The server keeps running until goss-supervisor stop.
    """
    paths = Paths.from_environment()
    with redirect_stdout(sys.stderr):  # stdout is for the answer
        if profile and "/" in profile:
            from .init import profile_for  # noqa: PLC0415 - YAML and all the rest: only when it is needed

            profile = profile_for(profile, paths)
        _make_it_run(paths, profile, settings, yes=yes, force=force)
    wanted = ChatWishes(model=profile, **wishes)
    if question or not sys.stdin.isatty():
        ask_once(paths, question, wanted)
    else:
        converse(paths, wanted)


def _make_it_run(
    paths: Paths, profile: str | None, settings: tuple[str, ...], *, yes: bool, force: bool
) -> None:
    """Raises as `start` and `load` do, and UsageError for settings of a server that runs already."""
    from .start import start_detached  # noqa: PLC0415 - YAML and all the rest: only when it is needed

    try:
        running = client.ask(paths, {"op": "running"})
    except NotRunning:
        start_detached(paths, profile, parse_settings(settings), yes=yes, force=force)
        return
    if settings:
        raise UsageError(
            "--set is for a start, but a server runs already.", hint="goss-supervisor restart --set …"
        )
    plan = running["plan"] or {}
    if profile is not None and profile not in {running["profile"], *plan.get("aliases", ())}:
        _load_beside(paths, profile, force=force)


def _load_beside(paths: Paths, profile: str, *, force: bool) -> None:
    """Nothing where a server has it and is well: the first request wakes that."""
    from ..plan.plan_json import to_json  # noqa: PLC0415 - as above
    from .start import prepared  # noqa: PLC0415 - the same

    servers = client.ask(paths, {"op": "status"})["status"]["servers"]
    if any(each["profile"] == profile and each["state"] not in {"failed", "stopped"} for each in servers):
        return
    plan = to_json(prepared(profile, {}, paths, force=force, named=None).plan)
    request = {"op": "load", "plan": plan, "listen": None, "alone": False, "evicts": True}
    with waiting_for_the_daemon(f"loading {profile}") as progress:
        answer = client.follow(paths, request, progress.step)
    show_outcome(answer, as_json=False)


def converse(paths: Paths, wishes: ChatWishes) -> None:
    """Talk until the person leaves.  Raises UsageError without a terminal, and as `chat_server` does."""
    server = chat_server(paths, wishes.model)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("chat needs a terminal.", hint="goss-supervisor ask reads standard input.")
    note = "  A base model continues text, and does not answer questions." if server.is_base else ""
    click.echo(f"Ctrl+D leaves, Ctrl+C stops an answer, /help shows the rest.{note}", err=True)
    history = _History(chat_history_file(paths))
    conversation = _Conversation(server, wishes)
    try:
        while (message := _next_message()) is not None:
            if message.strip():
                conversation.take(message)
    finally:
        history.save()


def _next_message() -> str | None:
    """What a person typed, "" where it was thrown away with Ctrl+C; None once he leaves."""
    try:
        message = _typed()
    except EOFError:
        click.echo()
        return None
    except KeyboardInterrupt:
        click.echo("\n(Ctrl+D leaves)", err=True)
        return ""
    return None if message.strip() in _LEAVE else message


def _typed() -> str:
    """One line, or several."""
    text = input(">>> ")
    if text.lstrip().startswith(_QUOTES):
        text = text.lstrip().removeprefix(_QUOTES)
        while not text.rstrip().endswith(_QUOTES):
            text += "\n" + input("... ")
        return text.rstrip().removesuffix(_QUOTES).strip("\n")
    while text.endswith("\\"):
        text = text[:-1] + "\n" + input("... ")
    return text


class _Conversation:
    def __init__(self, server: ChatServer, wishes: ChatWishes) -> None:
        self._server, self._wishes = server, wishes
        self._messages: list[dict[str, str]] = []

    def take(self, message: str) -> None:
        """Read one input: a command such as ``/clear``, or a message for the model."""
        word = message.strip()
        if not re.fullmatch(r"/[a-z?]+", word):
            self._ask(message)
        elif word == "/clear":
            self._messages.clear()
            click.echo("The conversation is forgotten.", err=True)
        else:
            click.echo(_HELP if word in {"/help", "/?"} else f"There is no {word}.\n{_HELP}", err=True)

    def _ask(self, message: str) -> None:
        """What came of an answer that was stopped stays; a question that got none is taken back."""
        said = StreamedAnswer()
        self._messages.append({"role": "user", "content": message})
        pieces = answers(self._server, self._server.body(self._messages, self._wishes))
        try:
            with closing(pieces):
                show(pieces, said, reasoning=not self._wishes.no_reasoning)
        except KeyboardInterrupt:
            click.echo("\n(stopped)", err=True)
        except NetworkError as error:
            click.echo(f"\nerror: {error}" + (f"\nhint: {error.hint}" if error.hint else ""), err=True)
        if said.text:
            self._messages.append({"role": "assistant", "content": said.text})
        else:
            self._messages.pop()


class _History:
    """What was typed, for the arrow keys; Windows has its own.  A file that cannot be used is no obstacle."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: Any = None
        with suppress(ImportError):
            import readline  # noqa: PLC0415 - makes input() one with editing and a history

            self._lines = readline
        with suppress(OSError):
            for line in file.read_text("utf-8", "replace").splitlines() if self._lines else ():
                self._lines.add_history(line)

    def save(self) -> None:
        if self._lines is None:
            return
        count = self._lines.get_current_history_length()
        kept = (self._lines.get_history_item(number) for number in range(1, count + 1))
        text = "".join(f"{' '.join(line.split())}\n" for line in [*filter(None, kept)][-_KEPT_LINES:])
        with suppress(SupervisorError, OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, text.encode(errors="replace"))
