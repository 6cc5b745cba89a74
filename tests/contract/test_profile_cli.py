"""``goss-supervisor profile …`` as a user runs it, on real files in a home of its own."""

import json
import os
import shlex
import stat
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from supervisor.cli.init import init
from supervisor.cli.profile import _editor, profile
from supervisor.errors import ConfigError, NotFound, SupervisorError, UsageError
from supervisor.hardware.detection import VARIABLE
from supervisor.hardware.hardware import Hardware
from supervisor.hardware.wire import to_json
from supervisor.profile.jsonschema import FIRST_LINE, schema_text
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve, resolve_layer
from supervisor.profile.store import ProfileStore, shipped_folder, write_atomically

from ..fakes.wine import ON_WINE


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VISUAL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def folder(home):
    made = home / "config" / "profiles"
    made.mkdir(parents=True)
    return made


def run(*args, stdin=None):
    """Stdout and stderr of a command that succeeds; its error otherwise."""
    result = CliRunner().invoke(profile, args, input=stdin, catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def editor(tmp_path, monkeypatch, text):
    """An $EDITOR that leaves ``text`` in the file, or touches nothing."""
    (tmp_path / "text").write_text(text or "", encoding="utf-8")
    script = tmp_path / "editor.py"
    copy = f"import shutil, sys; shutil.copy({str(tmp_path / 'text')!r}, sys.argv[1])"
    script.write_text(copy if text is not None else "")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_ls_lists_shipped_and_own_profiles(folder):
    (folder / "demo.yaml").write_text("extends: demo\ndescription: mine\n")
    (folder / "broken.yaml").write_text("servr: 1\n")
    (folder / "Stray.yml").write_text("model: demo\n")
    out, err = run("ls")
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "ORIGIN", "DESCRIPTION"]
    rows = [" ".join(line.split()) for line in lines]
    assert "demo yours, shadows a shipped one mine" in rows
    assert "broken yours (broken: goss-supervisor profile check broken)" in rows
    assert "Stray.yml" in err


def test_ls_json_is_one_object(folder):
    (folder / "demo.yaml").write_text("extends: demo\ndescription: mine\n")
    listed = json.loads(run("ls", "--json")[0])
    assert listed["schema"] == 1
    demo = next(each for each in listed["profiles"] if each["name"] == "demo")
    assert demo == {
        "name": "demo",
        "path": str(folder / "demo.yaml"),
        "shipped": False,
        "shadows": str(shipped_folder() / "demo.yaml"),
        "description": "mine",
        "problem": None,
    }


def test_show_says_where_each_value_comes_from(folder):
    (folder / "mine.yaml").write_text("extends: evo-t1-64gb\nserver:\n  c: 8192\nenv: {HF_TOKEN: hf_x}\n")
    out, _ = run("show", "-v", "mine")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"# mine: {folder / 'mine.yaml'}"
    assert lines[2].startswith("# extends gpt-oss-120b: ")
    assert "ctx-size: 8192 # mine.yaml:3" in lines
    assert any(line.startswith("cpu-moe: true # evo-t1-64gb.yaml:") for line in lines)
    assert "port: 8080 # default" in lines
    assert "hf_x" not in out
    assert yaml.safe_load(out)["server"]["ctx-size"] == 8192


@pytest.mark.parametrize("name", ProfileStore(shipped_folder()).names())
def test_what_show_prints_is_the_same_profile(home, name):
    shown = load(run("show", name)[0].encode(), name, "shown.yaml")
    store = ProfileStore(home)
    again, before = resolve_layer(shown, store), resolve(name, store)
    for section in (
        "description",
        "match",
        "engine",
        "model",
        "server",
        "env",
        "listen",
        "gateway",
        "restart",
        "health",
        "stop",
        "aliases",
        "placement",
        "guardrails",
    ):
        assert getattr(again, section) == getattr(before, section)


def test_show_leaves_the_defaults_out_and_says_how_to_see_them(folder):
    (folder / "mine.yaml").write_text("model: demo\nserver: {c: 1024}\n")
    lines = run("show", "mine")[0].splitlines()
    assert [line.split("#")[0].strip() for line in lines] == [
        "",
        "model: demo",
        "server:",
        "ctx-size: 1024",
        "",
    ]
    assert lines[-1] == "# -v shows the defaults too"


def test_show_names_who_places_the_model_and_what_is_refused(folder):
    (folder / "mine.yaml").write_text("model: demo\nplacement: auto\n")
    lines = run("show", "--verbose", "mine")[0].splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["placement:", "auto", "#", "mine.yaml:2"],
        ["guardrails:", "balanced", "#", "default"],
        ["orphan:", "adopt", "#", "default"],
    ]


def test_show_json_has_values_and_origins(home):
    shown = json.loads(run("show", "rtx4060ti-oculink", "--json")[0])["profile"]
    assert shown["server"]["n-cpu-moe"] == 32
    assert shown["match"]["gpu_name"] == "*RTX 4060 Ti*"
    assert shown["origins"]["aliases"].startswith(str(shipped_folder() / "gpt-oss-120b.yaml") + ":")


def test_path_names_the_file(home):
    assert run("path", "demo")[0] == f"{shipped_folder() / 'demo.yaml'}\n"


@pytest.mark.parametrize("name", ["../demo", "demo.yaml", "Demo", "", "."])
def test_a_name_that_is_none_is_not_found(home, name):
    with pytest.raises(NotFound):
        run("path", name)


def test_a_file_whose_name_is_no_profiles_is_to_be_renamed_to_one_that_is(folder):
    (folder / "My box.yaml").write_text("extends: demo\n")
    with pytest.raises(NotFound) as none:
        run("path", "my box")
    assert none.value.hint == f"Rename {folder / 'My box.yaml'} to my-box.yaml."
    (folder / "My box.yaml").rename(folder / "my-box.yaml")
    assert run("path", "my-box")[0] == f"{folder / 'my-box.yaml'}\n"


def test_new_extends_and_completes_in_an_editor(folder):
    out, _ = run("new", "mine", "--from", "rx9070-20b")
    assert out == f"{folder / 'mine.yaml'}\n"
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    assert text.startswith(FIRST_LINE)
    assert "#   gpu-layers: 99" in text
    assert len(text.splitlines()) <= 15
    assert (folder / "schema.json").read_text(encoding="utf-8") == schema_text()
    store = ProfileStore(folder)
    assert resolve("mine", store).server == resolve("rx9070-20b", store).server
    uncommented = text.replace("\n# ", "\n").replace("\nWhat ", "\n# ").replace("\n`", "\n# `")
    assert resolve_layer(load(uncommented.encode(), "mine", "x"), store).listen.port == 8080


def test_new_alone_is_made_for_this_machine_as_init_does(folder, monkeypatch, tmp_path):
    box = tmp_path / "box.json"
    box.write_text(json.dumps(to_json(Hardware("linux", "x86_64", ram_bytes=32 << 30))))
    monkeypatch.setenv(VARIABLE, str(box))
    assert run("new")[0] == f"{folder / 'mine.yaml'}\n"
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    assert "extends: gpt-oss-20b" in text
    (folder / "mine.yaml").unlink()
    assert CliRunner().invoke(init, []).exit_code == 0
    assert (folder / "mine.yaml").read_text(encoding="utf-8") == text
    assert run("show")[0].startswith("# mine: "), "without a name it is the default profile"


def test_init_for_a_purpose_takes_the_first_that_suits_where_nobody_can_be_asked(
    folder, monkeypatch, tmp_path
):
    box = tmp_path / "box.json"
    box.write_text(json.dumps(to_json(Hardware("linux", "x86_64", ram_bytes=8 << 30))))
    monkeypatch.setenv(VARIABLE, str(box))
    for purpose, name, base in (
        ("chat", "mine", "gemma-4-e4b"),
        ("code", "code", "gemma-4-e4b"),
        ("embedding", "embedding", "qwen3-embedding-0.6b"),
    ):
        done = CliRunner().invoke(init, ["--for", purpose])
        assert done.exit_code == 0
        assert f"extends    {base}: the best for {purpose}; " in done.output
        assert f"extends: {base}\n" in (folder / f"{name}.yaml").read_text(encoding="utf-8")
    assert "serve it   goss-supervisor serve add embedding" in done.output


@pytest.mark.parametrize(
    "words",
    [("new", "demo", "--from", "gpt-oss-20b"), ("import", "--name", "demo", "llama-server", "-m", "x")],
)
def test_a_new_profile_hides_no_shipped_one(folder, words):
    with pytest.raises(UsageError, match="demo is the name of a shipped profile"):
        run(*words)
    assert not (folder / "demo.yaml").exists()


def test_new_never_overwrites(folder):
    (folder / "mine.yaml").write_text("model: demo\n")
    with pytest.raises(UsageError, match="There is a profile mine already"):
        run("new", "mine", "--from", "demo")
    assert (folder / "mine.yaml").read_text() == "model: demo\n"


@pytest.mark.parametrize("name", ["../x", "X", "a/b", ".x", "a b"])
def test_new_makes_no_file_outside_its_folder(home, name):
    with pytest.raises(UsageError, match="is no profile name"):
        run("new", name, "--from", "demo")
    assert not home.exists()


def test_edit_saves_a_shipped_profile_as_ones_own(home, tmp_path, monkeypatch):
    editor(tmp_path, monkeypatch, "extends: demo\nlisten: {port: 9000}\n")
    out, _ = run("edit", "demo")
    saved = home / "config" / "profiles" / "demo.yaml"
    assert out == f"{saved}\n"
    assert resolve("demo", ProfileStore(saved.parent)).listen.port == 9000
    assert list((home / "state" / "drafts").iterdir()) == []


def test_edit_of_nothing_changes_nothing(home, tmp_path, monkeypatch):
    editor(tmp_path, monkeypatch, None)
    assert run("edit", "demo") == ("", "nothing was changed\n")
    assert not (home / "config").exists()
    assert list((home / "state" / "drafts").iterdir()) == []


def test_edit_checks_before_it_saves_and_loses_nothing(folder, home, tmp_path, monkeypatch):
    (folder / "mine.yaml").write_text("model: demo\n")
    draft = home / "state" / "drafts" / "mine.yaml"
    editor(tmp_path, monkeypatch, "model: demo\nservr: 1\n")
    with pytest.raises(ConfigError) as error:
        run("edit", "mine")
    assert f"{draft}:2:1: servr: no such key (did you mean server?)" in str(error.value)
    assert f"the text is kept in {draft}" in str(error.value)
    assert (folder / "mine.yaml").read_text() == "model: demo\n"
    editor(tmp_path, monkeypatch, None)
    with pytest.raises(ConfigError, match="servr"):
        run("edit", "mine")
    editor(tmp_path, monkeypatch, "model: demo\nserver: {c: 1}\n")
    _, err = run("edit", "mine")
    assert "going on with the draft" in err
    assert (folder / "mine.yaml").read_text() == "model: demo\nserver: {c: 1}\n"
    assert not draft.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_a_broken_text_is_edited_again_or_thrown_away(home, tmp_path, monkeypatch):
    import pty

    editor(tmp_path, monkeypatch, "model: demo\nservr: 1\n")
    ours, theirs = pty.openpty()
    os.write(ours, b"y\nn\n")  # edit again, and then give up
    command = [sys.executable, "-c", "from supervisor.cli.profile import profile; profile()", "edit", "demo"]
    done = subprocess.run(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False
    )
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (0, b"")
    assert said.count("servr: no such key (did you mean server?)") == 2
    assert "nothing was changed" in said
    assert not (home / "config").exists()
    assert list((home / "state" / "drafts").iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "named", "words"),
    [
        ("win32", "C:\\tools\\vim.exe -f", ["C:\\tools\\vim.exe", "-f"]),
        ("win32", '"C:\\Program Files\\vim.exe" -f', ["C:\\Program Files\\vim.exe", "-f"]),
        ("linux", "/opt/a\\ b/vim -f", ["/opt/a b/vim", "-f"]),
    ],
)
def test_a_path_of_windows_is_the_editor_that_it_names(monkeypatch, platform, named, words):
    monkeypatch.setenv("EDITOR", named)
    assert shlex.split(_editor(platform)) == words


def test_an_editor_that_is_not_there_is_named(home, monkeypatch):
    monkeypatch.setenv("EDITOR", "/nonexistent/editor")
    with pytest.raises(SupervisorError, match="editor"):
        run("edit", "demo")
    assert not (home / "config").exists()


def test_check_tells_every_mistake_of_every_file(tmp_path, home):
    one, two, sound = tmp_path / "one.yaml", tmp_path / "two.yaml", tmp_path / "sound.yaml"
    one.write_text("servr: 1\n")
    two.write_text("extends: demo\nlisten: {port: x}\n")
    sound.write_text("server: {c: 1}\n")
    result = CliRunner().invoke(profile, ["check", str(one), str(two), str(sound), "demo"])
    assert str(result.exception).splitlines() == [
        f"{one}:1:1: servr: no such key (did you mean server?)",
        f"{two}:2:16: listen.port: must be a whole number from 1 to 65535, not the text 'x'",
    ]
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["PROFILE", "RESULT"],
        [str(sound), "ok"],
        ["demo", "ok"],
    ]
    assert result.stderr == f"{sound}: names no model; it can be extended, not started\n"


def test_check_without_files_checks_all(folder):
    out, err = run("check")
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(ProfileStore(folder).names())
    assert err == ""


def test_check_of_a_file_that_is_none(tmp_path, home):
    (tmp_path / "Bad Name.yaml").write_text("model: demo\n")
    with pytest.raises(ConfigError) as error:
        run("check", str(tmp_path / "none.yaml"), str(tmp_path), str(tmp_path / "Bad Name.yaml"), "no-such")
    assert len(str(error.value).splitlines()) == 4


def test_check_of_ten_megabytes_is_quick_and_says_why(tmp_path, home):
    (tmp_path / "big.yaml").write_bytes(b"a: b\n" * 2_000_000)
    with pytest.raises(ConfigError, match=r"big.yaml: the file is larger than 1024 KiB"):
        run("check", str(tmp_path / "big.yaml"))


def test_schema_is_json(home):
    assert json.loads(run("schema")[0])["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (["llama-server -m /x.gguf -c 4096 -fa"], None),
        (["-"], "llama-server \\\n  -m /x.gguf \\\n  -c 4096 -fa\n"),
        ([], "llama-server -m /x.gguf -c 4096 -fa\n"),
        (["llama-server", "-m", "/x.gguf", "-c", "4096", "-fa"], None),
    ],
)
def test_import_writes_the_profile_that_a_command_line_means(folder, args, stdin):
    out, err = run("import", "--name", "mine", *args, stdin=stdin)
    assert out == f"{folder / 'mine.yaml'}\n"
    assert err.startswith("-fa is written as -fa on")
    assert resolve("mine", ProfileStore(folder)).server == {"ctx-size": 4096, "flash-attn": "on"}


def test_import_without_a_name_takes_a_free_one(folder):
    line = "llama-server -hf ggml-org/gpt-oss-20b-GGUF -c 1"
    assert run("import", line)[0] == f"{folder / 'gpt-oss-20b-2.yaml'}\n"
    assert run("import", line)[0] == f"{folder / 'gpt-oss-20b-3.yaml'}\n"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "p.yaml"
    target.write_text("old")
    target.chmod(0o644)
    write_atomically(target, "new")
    assert target.read_text() == "new"
    assert sys.platform == "win32" or stat.S_IMODE(target.stat().st_mode) == 0o644
    (tmp_path / "folder").mkdir()
    with pytest.raises(SupervisorError, match="cannot be written"):
        write_atomically(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "p.yaml"]


@pytest.mark.skipif(ON_WINE, reason="its symlink() answers that it made a link, and none is there")
def test_a_link_is_followed(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("old")
    link.symlink_to(real)
    write_atomically(link, "new")
    assert (link.is_symlink(), real.read_text()) == (True, "new")


def test_what_cannot_be_written_is_said(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(SupervisorError, match="cannot be written"):
        write_atomically(blocker / "p.yaml", "new")


# --- for an editor


RIGHT = "# mine\nextends: demo   # the small one\nserver: {ctx-size: 2048}\n"


def checked(text, *options, name="mine"):
    words = ["check", name, "--stdin", "--json", *options]
    result = CliRunner().invoke(profile, words, input=text, standalone_mode=False)
    return json.loads(result.stdout), result.return_value


def test_every_mistake_of_a_text_is_told_with_its_place_and_the_words_of_check(folder):
    (folder / "mine.yaml").write_text("extends: demo\n")  # what is stored does not matter
    text = "extends: demo\nlisten: {port: x}\nservr: 1\n"
    found, code = checked(text)
    assert code == 0
    assert found["plan"] is None
    assert found["problems"] == [
        {
            "line": 2, "column": 16, "severity": "error", "hint": "",
            "message": "listen.port: must be a whole number from 1 to 65535, not the text 'x'",
        },
        {
            "line": 3, "column": 1, "severity": "error", "hint": "",
            "message": "servr: no such key (did you mean server?)",
        },
    ]  # fmt: skip
    plain = CliRunner().invoke(profile, ["check", "mine", "--stdin"], input=text, standalone_mode=False)
    assert plain.return_value == ConfigError.exit_code
    assert plain.stdout.splitlines()[1] == "mine:3:1: error: servr: no such key (did you mean server?)"
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        run("check", "mine")
    said = [
        f"{folder / 'mine.yaml'}:{each['line']}:{each['column']}: {each['message']}"
        for each in found["problems"]
    ]
    assert str(error.value).splitlines() == said


def test_a_mistake_elsewhere_has_no_line_and_says_where_it_is(folder):
    (folder / "base.yaml").write_text("servr: 1\nmodel: demo\n")
    (problem,) = checked("extends: base\n")[0]["problems"]
    assert problem["line"] is None
    assert problem["message"].startswith(f"{folder / 'base.yaml'}:1:1: servr: no such key")
    (problem,) = checked("extends: nosuch\n")[0]["problems"]
    assert (problem["line"], problem["column"]) == (1, 1)
    (problem,) = checked("model: [\n")[0]["problems"]
    assert problem["line"]


def test_a_text_that_can_only_be_extended_is_warned_of(folder):
    found, code = checked("server: {ctx-size: 1024}\n")
    assert code == 0
    assert [each["severity"] for each in found["problems"]] == ["warning"]
    with pytest.raises(UsageError, match="no profile name"):
        run("check", "../x", "--stdin", stdin="")
    with pytest.raises(UsageError, match="need one NAME"):
        run("check", "--json")


def test_with_plan_the_text_is_planned_as_if_it_were_saved(folder):
    (folder / "base.yaml").write_text("extends: demo\nserver: {ctx-size: 1024}\n")
    found, code = checked("extends: base\n", "--plan")
    assert code == 0
    assert found["plan"]["profile"] == "mine"
    assert found["plan"]["argv"][found["plan"]["argv"].index("--ctx-size") + 1] == "1024"
    assert not (folder / "mine.yaml").exists()
    key_file = folder / "none"
    (problem,) = checked(f"extends: demo\nserver: {{api-key-file: {key_file}}}\n", "--plan")[0]["problems"]
    assert f"{key_file} cannot be read" in problem["message"]
    assert str(folder / "mine.yaml") in problem["message"]


def text_of(name):
    return json.loads(run("show", name, "--text", "--json")[0])


def test_a_text_is_saved_as_it_is_and_the_one_before_is_kept(folder):
    file = folder / "mine.yaml"
    file.write_bytes(b"extends: demo\n")
    shown = text_of("mine")
    assert (shown["text"], shown["is_shipped"], shown["path"]) == ("extends: demo\n", False, str(file))
    saved = json.loads(run("save", "mine", "--based-on", shown["digest"], "--json", stdin=RIGHT)[0])
    assert file.read_text() == RIGHT
    assert (folder / "mine.yaml~").read_text() == "extends: demo\n"
    assert saved["changed"]
    assert saved["digest"] == text_of("mine")["digest"]
    assert run("show", "mine", "--text")[0] == RIGHT
    assert "mine.yaml~" not in run("ls")[0] + run("ls")[1]
    again = json.loads(run("save", "mine", "--based-on", saved["digest"], "--json", stdin=RIGHT)[0])
    assert not again["changed"]
    assert (folder / "mine.yaml~").read_text() == "extends: demo\n"


def test_a_text_that_is_wrong_or_based_on_another_one_is_not_saved(folder):
    file = folder / "mine.yaml"
    file.write_text("extends: demo\n")
    digest = text_of("mine")["digest"]
    with pytest.raises(ConfigError, match=r"mine\.yaml:1:1: servr: no such key"):
        run("save", "mine", "--based-on", digest, stdin="servr: 1\n")
    file.write_text("extends: demo\n# another editor\n")
    with pytest.raises(SupervisorError, match="changed by somebody else"):
        run("save", "mine", "--based-on", digest, stdin=RIGHT)
    assert file.read_text() == "extends: demo\n# another editor\n"
    assert not (folder / "mine.yaml~").exists()


def test_a_shipped_profile_is_not_saved_but_extended_under_another_name(folder):
    digest = text_of("demo")["digest"]
    with pytest.raises(UsageError) as error:
        run("save", "demo", "--based-on", digest, stdin=RIGHT)
    assert "goss-supervisor profile new mine --from demo" in error.value.hint
    made = json.loads(run("new", "mine", "--from", "demo", "--json")[0])
    assert made == {"schema": 1, "name": "mine", "path": str(folder / "mine.yaml")}
    with pytest.raises(NotFound):
        run("save", "nosuch", "--based-on", digest, stdin=RIGHT)


def test_show_json_has_each_value_that_holds_with_its_origin(folder):
    (folder / "mine.yaml").write_text(RIGHT)
    values = {each["key"]: each for each in json.loads(run("show", "mine", "--json")[0])["profile"]["values"]}
    assert values["server.ctx-size"] == {
        "key": "server.ctx-size",
        "value": "2048",
        "origin": {"profile": "mine", "file": str(folder / "mine.yaml"), "line": 3, "column": 10},
    }
    assert values["model"]["origin"]["profile"] == "demo"
    assert values["guardrails"]["origin"] is None
