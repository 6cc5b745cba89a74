"""What is generated is current, and what is linked is there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
import yaml

from supervisor.cli.app import program
from supervisor.errors import EXIT_DEGRADED, EXIT_INTERRUPTED, EXIT_OK, SupervisorError
from supervisor.options.meanings import pinned
from supervisor.options.render import render
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = ("architecture", "clients", "commands", "lifecycle", "profiles", "troubleshooting")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_FILE = re.compile(r"(?<![\w/.~*-])(?:(?:supervisor|tests)/[\w*./-]*[\w*/]|(?:[\w*-]+/)*[\w*-]+\.py\b)")
_LINK = re.compile(
    r"\]\(<?([^()\s>]+(?:\([^()\s]*\)[^()\s>]*)*)>?(?: +\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\""
)


def generator(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_generated_is_as_its_source_is_now(name):
    made = generator(f"make_{name}").page()
    written = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert written == made, f"run: bin/check --fix (or python docs/make_{name}.py)"


@pytest.mark.parametrize(
    ("page", "lead"),
    [("docs/commands.md", "Exit codes:"), ("share/man/man1/goss-supervisor.1", "SH EXIT STATUS")],
)
def test_the_exit_codes_of_a_page_are_those_of_the_errors(page, lead):
    listed = (ROOT / page).read_text(encoding="utf-8").partition(lead)[2]
    listed = re.match(r".*?\.\n", listed, re.DOTALL)[0]
    errors = [SupervisorError, *SupervisorError.__subclasses__()]
    codes = {EXIT_OK, EXIT_DEGRADED, EXIT_INTERRUPTED, *(error.exit_code for error in errors)}
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", listed)} == codes


# --- links


def anchors(text):
    """The fragments that GitHub gives the headings of a page: twice the same name gets -1, -2 …"""
    seen, found = {}, set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(text):
    """Targets of links and images, of HTML too; what stands in code is none."""
    plain = _CODE.sub("", _FENCE.sub("", text))
    return [one or other for one, other in _LINK.findall(plain)]


def broken(page, text):
    """Why each relative link of a page goes nowhere; addresses of the web are not asked."""
    for target in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, fragment = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if path and not file.exists():
            yield f"{target}: there is no {path}"
        elif ROOT not in (file, *file.parents):
            yield f"{target}: outside of the repository"
        elif fragment and fragment not in anchors(file.read_text(encoding="utf-8") if path else text):
            yield f"{target}: {file.name} has no heading #{fragment}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_every_page_can_be_reached_from_the_first_one():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [unquote(each).partition("#")[0] for each in links(page.read_text(encoding="utf-8"))]
        ahead += [
            (page.parent / each).resolve() for each in targets if each.endswith(".md") and ":" not in each
        ]
    assert {page.name for page in PAGES} - {page.name for page in reached} == set()


def test_the_link_checker_finds_what_is_broken():
    text = (
        "# One two\n## A `b`: c\n## A `b`: c\n[a](docs/no.md) [b](#one-two) [c](#a-b-c-1) [d](#a-b-c-2) ![e](no.svg)\n"
        '`[not](code.md)` ``[nor](this.md)``\n```\n[nor](fenced.md)\n# no heading\n```\n<img src="no.png">\n'
        "[f](https://example.org/x) [g](LICENSE) [h](#no-heading) [i](docs/profiles.md#gateway) [j](../x)\n"
    )
    found = [each.partition(":")[0] for each in broken(ROOT / "x.md", text)]
    assert found == ["docs/no.md", "#a-b-c-2", "no.svg", "no.png", "#no-heading", "../x"]


# --- files of the repository


def is_there(name):
    """``server/child.py`` may lie below any folder of the code; ``*`` stands for any part of a name."""
    below = ((ROOT / top).glob(f"**/{name}") for top in ("supervisor", "tests", "docs", "bench"))
    return any(any(found) for found in (ROOT.glob(name), *below))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page):
    named = set(_FILE.findall(page.read_text(encoding="utf-8"))) - {"hello.py"}  # of a client's example
    assert sorted(name for name in named if not is_there(name)) == []


def test_a_file_that_is_gone_is_found():
    text = (
        "`supervisor/no/` `supervisor/server/` `tests/unit/test_no*.py` tests/unit/test_do*.py, `docs.py`,\n"
        "`no/child.py`, `server/child.py` /supervisor/load ~/goss-supervisor/no\n"
        "```\n$ bench/no.py bench/load.py\n```\n"
    )
    gone = [name for name in _FILE.findall(text) if not is_there(name)]
    assert gone == ["supervisor/no/", "tests/unit/test_no*.py", "docs.py", "no/child.py", "bench/no.py"]


# --- examples to copy


_EXAMPLE = re.compile(r"^```yaml\n# ((?:profiles/)?[\w.-]+\.yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def set_ups():
    """Of several models: the profiles by name, and the config.yaml of each set-up, as texts."""
    examples = _EXAMPLE.findall((DOCS / "several-models.md").read_text(encoding="utf-8"))
    profiles = {Path(file).stem: text for file, text in examples if file != "config.yaml"}
    return profiles, [text for file, text in examples if file == "config.yaml"]


def test_the_set_ups_of_several_models_can_be_copied_from_the_docs(tmp_path):
    """Each profile is right and the pinned build can do it, and config.yaml serves what is there."""
    profiles, settings = set_ups()
    (tmp_path / "profiles").mkdir()
    for name, text in profiles.items():
        (tmp_path / "profiles" / f"{name}.yaml").write_text(text, encoding="utf-8")
    store = ProfileStore(tmp_path / "profiles")
    problems = {name: render(resolve(name, store).server, pinned()).problems for name in profiles}
    assert problems == dict.fromkeys(("chat", "helper", "embed", "qwen"), ())
    served = [
        each["profile"] if isinstance(each, dict) else each
        for one in settings
        for each in yaml.safe_load(one)["serve"]
    ]
    assert len(settings) == 3
    assert {resolve(name, store).name for name in served} == {*profiles, "ryzen-ai-max-395"}


# --- commands

_BLOCK = re.compile(r"^( *)(`{3,}|~{3,})\w*\n(.*?)^\1\2[`~]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_TYPED = re.compile(r"(?:\$ |PS> |> )?(?:sudo )?(?:[A-Z_]+=\S+ )*(?:\S*/)?goss-supervisor(?: (.*))?")
_ENDS = re.compile(r"(?:^| )(?:#|\||>|&&|;|2>)")


def typed(text):
    """What a page has people type behind ``goss-supervisor``, in its blocks and within its sentences."""
    blocks = [block.replace("\\\n", " ") for _, _, block in _BLOCK.findall(text)]
    lines = [*_SPAN.findall(_BLOCK.sub("", text)), *(line for block in blocks for line in block.splitlines())]
    found = (_TYPED.fullmatch(line.strip()) for line in lines)
    return [_ENDS.split(match[1] or "")[0] for match in found if match]


def why_not_taken(line):
    """What the program would say to these words; "" where it would take them.  Nothing is run."""
    words = [word.strip("[]") for word in shlex.split(line) if word not in {"…", "..."}]
    command, context = program, click.Context(program)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            takes_words = any(isinstance(each, click.Argument) for each in command.params)
            if takes_words:  # bench NAME...
                break
            return f"no command {words[0]}"
        command = found
        words.pop(0)
        context = click.Context(command, parent=context)
    try:
        _, rest, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    is_done = not rest or context.allow_extra_args or isinstance(command, click.Group)
    return "" if is_done else f"too many words: {rest}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "commands.md"], ids=lambda page: page.name
)
def test_the_program_takes_every_command_of_a_page(page):
    """Those of commands.md are made from the program."""
    lines = typed(page.read_text(encoding="utf-8"))
    assert [(line, why) for line in lines if (why := why_not_taken(line))] == []


def test_a_command_that_the_program_does_not_take_is_found():
    text = (
        "`goss-supervisor nosuch`, `goss-supervisor plan demo --nosuch`, `goss-supervisor run` and\n"
        "```console\n$ sudo goss-supervisor plan a b | less\n$ bin/goss-supervisor start -d \\\n  demo  # so\n```\n"
    )
    lines = typed(text)
    assert lines == ["nosuch", "plan demo --nosuch", "run", "plan a b", "start -d    demo "]
    assert [bool(why_not_taken(line)) for line in lines] == [True, True, False, True, False]
