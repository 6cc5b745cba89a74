"""``bench``: how fast a profile is on this machine, and what was measured before."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..errors import NotRunning, SupervisorError, UsageError
from ..files import SHARED, replace_file
from ..home import client
from ..home.places import bench_folder
from ..paths import Paths
from . import bench_tables
from .common import completer, complete_profiles, json_option
from .output import StderrProgress, echo_json, table

if TYPE_CHECKING:
    from ..measure.chart import Chart
    from ..measure.measurement import Workload
    from ..measure.record import BenchHistory, BenchResult, BenchRow
    from ..plan.launch import LaunchPlan

_SCENARIOS = ("chat", "agent", "batch", "article")
_OWN = "own"  # the scenario of workloads from the command line
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class BenchWishes:
    """What the options of `bench` say."""

    scenario: tuple[str, ...]
    prompt: tuple[int, ...]
    depth: tuple[int, ...]
    answer: tuple[int, ...]
    clients: tuple[int, ...]
    seconds: float | None
    polite: bool


class _Numbers(click.ParamType):
    """``512,2048``: whole numbers."""

    name = "N[,N…]"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers, like 512,2048.", param, ctx)
        if min(numbers) < self._least:
            self.fail(f"{min(numbers)} is less than {self._least}.", param, ctx)
        return numbers


class _BenchGroup(click.Group):
    """``bench NAME…`` measures; a first word that is one of its commands is that command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            return super().parse_args(ctx, args)
        ctx.allow_interspersed_args = True
        return click.Command.parse_args(self, ctx, args)  # the names are left in ctx.args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(each) for each in complete_profiles(ctx, self.params[0], incomplete)]
        return [*names, *(super().shell_complete(ctx, incomplete) if not ctx.args else [])]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] [NAME]... | COMMAND")


def _history() -> BenchHistory:
    from ..measure.record import BenchHistory  # noqa: PLC0415 - only when it is needed

    return BenchHistory(bench_folder(Paths.from_environment()))


def _ids() -> Iterable[str]:
    return _history().ids()


def _ids_and_profiles() -> Iterable[str]:
    return [*_ids(), *dict.fromkeys(each.rpartition("-")[0] for each in _ids())]


csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print a line of CSV for each workload.")
svg_option = click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the chart into an SVG file."
)


@click.group(cls=_BenchGroup, invoke_without_command=True, context_settings={"allow_extra_args": True})
@click.option(
    "--scenario",
    "-s",
    multiple=True,
    type=click.Choice(_SCENARIOS),
    help="chat: a short prompt and 256 tokens of answer; agent: long prompts that share their beginning; batch: 8 "
    "clients at the same time; article: the question of the articles that the profiles were made from. Several can be "
    "given. Default: chat.",
)
@click.option("--prompt", type=_Numbers(1), default=(), help="Measure prompts of so many tokens.")
@click.option("--depth", type=_Numbers(0), default=(), help="Tokens in the cache before the prompt.")
@click.option("--answer", type=_Numbers(1), default=(), help="Tokens to generate.")
@click.option("--clients", type=_Numbers(1), default=(), help="Clients that ask at the same time.")
@click.option("--seconds", type=click.FloatRange(min=1), help="Spend at most so long on each profile.")
@click.option("--polite", is_flag=True, help="Give way to the requests of others; else they wait.")
@json_option
@csv_option
@svg_option
@click.pass_context
def bench(context: click.Context, *, as_json: bool, as_csv: bool, svg: Path | None, **wishes: Any) -> None:  # noqa: ANN401 - see BenchWishes
    """
    Measure how fast profiles are on this machine, as their clients see it.

    Without a NAME it is the main server's profile, else the one that start would choose.  A server that is not
    loaded is loaded for this, and all is as before at the end.  The result is kept: bench ls, bench show, bench
    compare.
    """
    if context.invoked_subcommand is not None:
        return
    _check(as_json=as_json, as_csv=as_csv)
    live = not (as_json or as_csv)
    results = measured(Paths.from_environment(), context.args, BenchWishes(**wishes), live=live)
    _print(results, as_json=as_json, as_csv=as_csv)
    _write(svg, bench_tables.charts(results))


@bench.command("ls")
@json_option
def list_command(*, as_json: bool) -> None:
    """List the results, the newest last."""
    results = _all_results()
    if as_json:
        echo_json(results=[bench_tables.result_json(each) for each in results])
    elif results:
        click.echo(bench_tables.list_table(results))
    else:
        click.echo("Nothing was measured here yet: goss-supervisor bench", err=True)


@bench.command("show")
@click.argument("name", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@json_option
@csv_option
@svg_option
def show_command(name: str, *, as_json: bool, as_csv: bool, svg: Path | None) -> None:
    """Show a result, or the last one of a profile, with its chart."""
    _check(as_json=as_json, as_csv=as_csv)
    result = _history().find(name)
    if not (as_json or as_csv):
        click.echo("\n".join([*bench_tables.head_lines(result), bench_tables.result_table(result)]))
    _print([result], as_json=as_json, as_csv=as_csv)
    _write(svg, bench_tables.charts([result]))


@bench.command("compare")
@click.argument("first", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@click.argument("second", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@json_option
@svg_option
def compare_command(first: str, second: str, *, as_json: bool, svg: Path | None) -> None:
    """
    Compare two results: how many times as fast the second one is, with a 95 % interval.

    A profile's name means its last result.  Only the same workloads are compared.  Where the interval includes
    1, no difference was seen.
    """
    from ..measure.record import matched  # noqa: PLC0415 - as in _history

    one, two = _history().find(first), _history().find(second)
    pairs = matched(one, two)
    if not pairs.both:
        raise SupervisorError(
            f"{one.id} and {two.id} have no workload in common: {_labels(one)} against {_labels(two)}.",
            hint=f"Measure the same: goss-supervisor bench {two.profile} {_again(one)}",
        )
    if as_json:
        echo_json(**bench_tables.compare_json(pairs, one, two))
    else:
        click.echo(bench_tables.compare_table(pairs, one, two))
        for line in bench_tables.compare_lines(pairs, one, two):
            click.echo(line)
        _draw(bench_tables.pair_charts(pairs, one.id, two.id))
    _write(svg, bench_tables.pair_charts(pairs, one.id, two.id))


@bench.command("rm")
@click.argument("ids", metavar="ID", nargs=-1, required=True, shell_complete=completer(_ids))
def remove_command(ids: tuple[str, ...]) -> None:
    """Remove results."""
    for each in ids:
        _history().remove(each)
        click.echo(f"removed {each}")


def _check(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv are two forms of the same: give one of them.")


def _all_results() -> list[BenchResult]:
    results, skipped = _history().all()
    for sentence in skipped:
        click.echo(f"skipped: {sentence}", err=True)
    return results


def _labels(result: BenchResult) -> str:
    return ", ".join(map(bench_tables.row_label, result.rows))


def _again(result: BenchResult) -> str:
    """The options that measure the same once more, as far as there are such."""
    named = [each for each in result.scenarios if each in SCENARIOS]
    return " ".join(f"--scenario {each}" for each in named) or "with the same --prompt and --answer"


def _print(results: Sequence[BenchResult], *, as_json: bool, as_csv: bool) -> None:
    """What programs read; or for people what is below the tables that they have seen."""
    if as_json:
        echo_json(results=[bench_tables.result_json(each) for each in results])
    elif as_csv:
        click.echo(bench_tables.csv_text(results), nl=False)
    else:
        for result in results:
            for line in bench_tables.below_lines(result):
                click.echo(line)
        _draw(bench_tables.charts(results))


def _draw(charts: Sequence[Bars]) -> None:
    """As text, as wide as the terminal."""
    from ..measure.chart import text  # noqa: PLC0415 - as in _history

    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    plain = not _shows("█▓░±×")
    for chart in charts:
        for line in ["", *text(chart, width, plain=plain)] if chart.bars else ():
            click.echo(line)


def _shows(letters: str) -> bool:
    """Whether stdout's encoding has them."""
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _write(file: Path | None, charts: Sequence[Bars]) -> None:
    """Raises PermissionDenied or SupervisorError where the file cannot be written."""
    if file is not None:
        from ..measure.chart import svg  # noqa: PLC0415 - as in _history

        replace_file(file, svg(charts).encode(), mode=SHARED)
        click.echo(f"chart: {file}", err=True)
