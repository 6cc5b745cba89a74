"""``help``, ``version`` and ``open``: what people type before they have read anything."""

from __future__ import annotations

import click

from .. import __version__
from ..errors import NotRunning, SupervisorError, UsageError
from ..home import client
from ..paths import Paths
from .common import json_option
from .output import echo_json


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a COMMAND, or the list of all."""
    context = context.find_root()
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            raise UsageError(f"There is no command {' '.join(words)}.", hint="goss-supervisor help")
        context = click.Context(command, info_name=word, parent=context)
    click.echo(context.get_help())


@click.command()
@json_option
def version(*, as_json: bool) -> None:
    """Show the version; engine ls shows those of llama.cpp."""
    if as_json:
        echo_json(version=__version__)
    else:
        click.echo(f"goss-supervisor {__version__}")


@click.command("open")
@click.option("--chat", is_flag=True, help="Open llama-server's own page, to chat there.")
def open_(*, chat: bool) -> None:
    """
    Open the page of goss-supervisor: what runs, what it costs, and what you can do.

    It prints the address too, for a machine without a browser.  You need no key: the address that the browser
    gets has a code that is good once, for a minute.
    """
    import webbrowser  # noqa: PLC0415 - only here

    url, code = _chat_page() if chat else _own_page()
    if not url.startswith("http"):
        raise UsageError(f"A browser cannot open {url}.", hint="Set listen.host to 127.0.0.1.")
    click.echo(url)
    address = f"{url}#code={code}" if code else url
    if not webbrowser.open(address):
        good = " Its code works once, for a minute." if code else ""
        raise SupervisorError("There is no browser here.", hint=f"Open {address} yourself.{good}")


def _own_page() -> tuple[str, str]:
    """A browser keeps what is behind # to itself: it is in no log and no request."""
    answer = client.ask(Paths.from_environment(), {"op": "code"})
    return answer["url"], answer["code"]


def _chat_page() -> tuple[str, str]:
    url = client.ask(Paths.from_environment(), {"op": "running"})["url"]
    if url is None:
        raise NotRunning("The daemon runs no server.", hint="goss-supervisor start")
    return url, ""
