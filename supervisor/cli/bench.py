"""``bench``: how fast a profile is on this machine, and what was measured before."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import EXIT_OK, NotRunning, SupervisorError, UsageError
from ..files import write_named
from ..home import client
from ..home.places import bench_folder
from ..measure.chart import Bars, svg_text, text
from ..measure.record import BenchHistory, BenchResult, matched
from ..measure.scenarios import SCENARIOS
from ..measure.session import refuse_without_room
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.plan_json import from_json
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from . import bench_tables
from .bench_run import BenchWishes, measured, say
from .common import complete_profiles, completer, json_option, show_default_profile
from .first_run import ask_before_gigabytes
from .output import echo_json, harmless, shows, waiting
from .start import prepared

_ABOUT = "; ".join(f"{name}: {each.about}" for name, each in SCENARIOS.items())
_OWN_OPTIONS = (  # the field of each, and what it is where it is not given
    ("prompt", "prompt_tokens", None),
    ("depth", "depth_tokens", 0),
    ("answer", "answer_tokens", None),
    ("clients", "clients", 1),
)
EXIT_NOT_KEPT = 1
_HAS_COMMAND = f"{__name__}.has_command"
_LOADED = {"ready", "degraded", "sleeping"}
_COLUMNS = 100  # where nobody knows how wide the terminal is


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # not generic in the oldest click
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
        return tuple(dict.fromkeys(numbers))


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no length of time.", param, ctx)
        return seconds


class _BenchGroup(click.Group):
    """``bench NAME…`` measures; a first word that is one of its commands is that command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            ctx.meta[_HAS_COMMAND] = True
            return super().parse_args(ctx, args)
        ctx.allow_interspersed_args = True
        return click.Command.parse_args(self, ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The names would take the word of a command, too."""
        found = super().get_params(ctx)
        return [each for each in found if each.name != "names"] if _HAS_COMMAND in ctx.meta else found


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Profiles, and in place of the first one a command."""
    commands = [] if ctx.params.get("names") else bench.commands
    return [
        *(each for each in commands if each.startswith(incomplete)),
        *complete_profiles(ctx, param, incomplete),
    ]


def _history() -> BenchHistory:
    return BenchHistory(bench_folder(Paths.from_environment()))


def _ids() -> Iterable[str]:
    return _history().ids()


def _ids_and_profiles() -> Iterable[str]:
    return [*_ids(), *dict.fromkeys(each.rpartition("-")[0] for each in _ids())]


_csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print a line of CSV for each workload.")
_svg_option = click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the chart into an SVG file.",
)


@click.group(cls=_BenchGroup, invoke_without_command=True, subcommand_metavar="| COMMAND")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_complete)
@click.option(
    "--scenario",
    "-s",
    multiple=True,
    type=click.Choice(list(SCENARIOS)),
    help=f"What to measure; can be given several times. {_ABOUT}. Default: chat.",
)
@click.option("--prompt", type=_Numbers(1), default=(), help="Measure prompts of this many tokens.")
@click.option("--depth", type=_Numbers(0), default=(), help="Tokens in the cache before the prompt.")
@click.option("--answer", type=_Numbers(1), default=(), help="Tokens to generate.")
@click.option("--clients", type=_Numbers(1), default=(), help="Clients that ask at the same time.")
@click.option(
    "--seconds",
    type=_Seconds(min=1),
    metavar="SECONDS",
    help="Start no new workload of a profile after this time; each takes at least three runs.",
)
@click.option("--polite", is_flag=True, help="Give way to the requests of others; else they wait.")
@json_option
@_csv_option
@_svg_option
@click.pass_context
def bench(
    context: click.Context,
    /,
    *,
    names: tuple[str, ...] = (),
    as_json: bool,
    as_csv: bool,
    svg: Path | None,
    **wishes: Any,  # noqa: ANN401 - see BenchWishes
) -> int:
    """
    Measure how fast profiles are on this machine, as their clients see it.

    Without a NAME, bench takes the main server's profile, else the one that start would choose.  It loads a
    profile that is not loaded, and puts everything back at the end.  --prompt, --depth, --answer and
    --clients measure every combination of their values in place of a scenario.  bench ls, show and compare
    use the results.
    """
    if context.invoked_subcommand is not None:
        return EXIT_OK
    _check(as_json=as_json, as_csv=as_csv)
    live = not (as_json or as_csv)
    paths = Paths.from_environment()
    refuse_without_room(paths, waiting)
    plan_of = partial(_plan, paths)
    names = names or (_usual(paths),)
    _demand(paths, names)
    results = measured(paths, names, plan_of, BenchWishes(**wishes), live=live)
    _print(results, as_json=as_json, as_csv=as_csv)
    _write(svg, bench_tables.charts(results))
    return EXIT_OK if all(each.id for each in results) else EXIT_NOT_KEPT


def _demand(paths: Paths, names: Sequence[str]) -> None:
    """
    Raises NotFound and ConfigError before the first one is measured, which takes a while.  What runs needs no
    file.
    """
    running = {each["profile"] for each in _servers(paths) if each["state"] in _LOADED}
    for name in names:
        if name not in running:
            resolve(name, ProfileStore(paths.profiles))


def _usual(paths: Paths) -> str:
    """The main server's profile, else the default one, whose name is shown; asks before it downloads much."""
    try:
        running = client.ask(paths, {"op": "running"})["profile"]
    except NotRunning:
        running = None
    if running:
        return str(running)
    name = show_default_profile(paths).name
    ask_before_gigabytes(name, paths, "bench")
    return name


def _plan(paths: Paths, name: str) -> LaunchPlan:
    """What runs it now, else what a load would run; then the engine and the model are made ready, too."""
    for server in _servers(paths):
        if server["profile"] == name and server["state"] in _LOADED:
            running = client.ask(paths, {"op": "running", "server": server["name"]})
            if running["plan"]:
                return from_json(running["plan"])
    return prepared(name, {}, paths, named=None).plan


def _servers(paths: Paths) -> list[dict[str, Any]]:
    try:
        servers: list[dict[str, Any]] = client.ask(paths, {"op": "status"})["status"]["servers"]
    except NotRunning:
        return []
    return servers


@bench.command("ls")
@json_option
def list_command(*, as_json: bool) -> None:
    """List the results, the newest last."""
    results = _all_results()
    if as_json:
        echo_json(results=[bench_tables.result_json(each) for each in results])
    elif results:
        say(bench_tables.list_table(results))
    else:
        click.echo("Nothing was measured here yet: goss-supervisor bench", err=True)


@bench.command("show")
@click.argument("name", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@json_option
@_csv_option
@_svg_option
def show_command(name: str, *, as_json: bool, as_csv: bool, svg: Path | None) -> None:
    """Show a result, or the last one of a profile, with its chart."""
    _check(as_json=as_json, as_csv=as_csv)
    result = _history().find(name)
    if not (as_json or as_csv):
        say("\n".join([*bench_tables.head_lines(result), bench_tables.result_table(result)]))
    _print([result], as_json=as_json, as_csv=as_csv)
    _write(svg, bench_tables.charts([result]))


@bench.command("compare")
@click.argument("first", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@click.argument("second", metavar="ID|PROFILE", shell_complete=completer(_ids_and_profiles))
@json_option
@_svg_option
def compare_command(first: str, second: str, *, as_json: bool, svg: Path | None) -> None:
    """
    Compare two results by their ratio and its 95 % interval.

    The ratio is the second one's figure divided by the first one's.  A profile's name means its last result.
    It compares only the same workloads.  If the interval includes 1, it saw no difference.
    """
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
        say(bench_tables.compare_table(pairs, one, two))
        below = list(bench_tables.compare_lines(pairs, one, two))
        for line in ["", *below] if below else ():
            say(line)
        _draw(bench_tables.pair_charts(pairs, one.id, two.id))
    _write(svg, bench_tables.pair_charts(pairs, one.id, two.id))


@bench.command("rm")
@click.argument("ids", metavar="ID", nargs=-1, required=True, shell_complete=completer(_ids))
def remove_command(ids: tuple[str, ...]) -> None:
    """Remove results."""
    ids = tuple(dict.fromkeys(ids))
    _history().remove(*ids)
    click.echo(f"removed {', '.join(ids)}")


def _check(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other.", hint="Choose one of them.")


def _all_results() -> list[BenchResult]:
    results, skipped = _history().all()
    for sentence in skipped:
        click.echo(f"skipped: {sentence}", err=True)
    return results


def _labels(result: BenchResult) -> str:
    return ", ".join(map(bench_tables.row_label, result.rows))


def _again(result: BenchResult) -> str:
    """The options that measure the same once more."""
    named = [f"--scenario {each}" for each in result.scenarios if each in SCENARIOS]
    own = [row.measured.workload for row in result.rows if row.scenario not in SCENARIOS]
    values = {
        option: sorted({getattr(each, name) for each in own} - {default})
        for option, name, default in _OWN_OPTIONS
    }
    named += [f"--{option} {','.join(map(str, numbers))}" for option, numbers in values.items() if numbers]
    return " ".join(named)


def _print(results: Sequence[BenchResult], *, as_json: bool, as_csv: bool) -> None:
    """What programs read; or for people what is below the tables that they have seen."""
    if as_json:
        echo_json(results=[bench_tables.result_json(each) for each in results])
    elif as_csv:
        click.echo(bench_tables.csv_text(results), nl=False)
    else:
        for result in results:
            below = list(bench_tables.below_lines(result))
            named = [f"{result.id or result.profile}:"] if len(results) > 1 else []
            for line in ["", *named, *below] if below else ():
                say(line)
        _draw(bench_tables.charts(results))


def _draw(charts: Sequence[Bars]) -> None:
    """As text, as wide as the terminal."""
    width = shutil.get_terminal_size((_COLUMNS, 24)).columns
    plain = not shows("█▓░")
    for chart in charts:
        for line in ["", *text(chart, width, plain=plain)] if chart.bars else ():
            click.echo(harmless(line))


def _write(file: Path | None, charts: Sequence[Bars]) -> None:
    """Raises PermissionDenied or SupervisorError where the file cannot be written."""
    if file is not None:
        write_named(file, svg_text(charts).encode())
        click.echo(f"chart: {file}", err=True)
