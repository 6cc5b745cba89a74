"""What a tuning starts from, with real profiles and files, and an engine that is a script."""

from __future__ import annotations

import json

import pytest

from supervisor.engine.catalogue.pins import DEFAULT_TAG
from supervisor.engine.inventory import Install, folder, view_of, write_record
from supervisor.errors import ConfigError, DoesNotFit, NotFound, UsageError
from supervisor.hardware.hardware import Cpu, Gpu, Hardware
from supervisor.measure.measurement import Sample, Target, Workload
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths
from supervisor.prepare.prepare import prepare
from supervisor.prepare.variants import variants_of
from supervisor.profile.store import ProfileStore
from supervisor.progress import Silent
from supervisor.tune.goals import LOOK
from supervisor.tune.search_values import Found
from supervisor.tune.tuned_profile import TunedResult, write_tuned
from supervisor.tune.tuning_journal import opened_journal
from supervisor.tune.tuning_setup import TuneRequest, looked, set_up, tips_of

from ..fakes.binaries import fake_server
from ..fakes.shapes import write_sparse

GIB = 1024**3
CUDA = "CUDA0: NVIDIA GeForce RTX 3060 Ti (8192 MiB, 7800 MiB free)"
CARD = Gpu(
    "nvidia", "NVIDIA GeForce RTX 3060 Ti", memory_bytes=8 * GIB, free_bytes=7800 << 20, integrated=False
)
BOX = Hardware(
    "linux",
    "x86_64",
    cpu=Cpu("A processor", 8, 8, 16),
    ram_bytes=32 * GIB,
    available_bytes=28 * GIB,
    gpus=(CARD,),
)


@pytest.fixture
def home(tmp_path):
    return Machine(tmp_path)


class Machine:
    def __init__(self, root):
        self.paths = Paths.under(root)
        ensure_demo(self.paths.models)
        self.engine = fake_server(root / "engine" / "llama-server")

    def profile(self, name="mine", **server):
        lines = [f"  {key}: {json.dumps(value)}" for key, value in ({"ctx-size": 4096} | server).items()]
        text = (
            f"model: demo\nengine: {{source: path, path: {self.engine}}}\nserver:\n" + "\n".join(lines) + "\n"
        )
        self.paths.profiles.mkdir(parents=True, exist_ok=True)
        (self.paths.profiles / f"{name}.yaml").write_text(text)
        return self

    def set_up(self, name="mine", **more):
        return set_up(TuneRequest(name, **more), variants_of(name, self.paths))


def axes(setup):
    return {axis.key for axis in setup.space.axes}


def test_it_begins_with_the_profile_as_it_is_and_with_each_launch_once(home):
    setup = home.profile().set_up()
    assert setup.starts == ((),), (
        "without a GPU, the planner's placement and the engine's are the same launch"
    )
    assert setup.fits(())
    assert "server.ubatch-size" in axes(setup)


def test_what_a_profile_sets_is_compared_with_what_the_engine_would_take(home):
    setup = home.profile("pasted", **{"ubatch-size": 256, "flash-attn": "off"}).set_up("pasted")
    assert setup.starts == ((), (("server.flash-attn", "auto"), ("server.ubatch-size", "512")))


def test_what_changes_the_answers_is_no_part_of_the_space_until_it_is_allowed(home):
    home.profile(**{"ctx-size": 16384})
    assert not {"server.ctx-size", "server.cache-type-k", "server.cache-type-v"} & axes(home.set_up())
    allowed = home.set_up(varied={"cache-type-k": ("f16", "q8_0")}, min_context_tokens=8192)
    assert {"server.ctx-size", "server.cache-type-k"} <= axes(allowed)
    (context,) = (axis for axis in allowed.space.axes if axis.key == "server.ctx-size")
    assert context.values == ("8192", "16384")


def test_the_fingerprint_of_a_result_is_of_the_build_that_it_runs_on(home, tmp_path):
    setup = home.profile().set_up()
    other = fake_server(tmp_path / "gpu" / "llama-server", devices=(CUDA,))
    found = setup.tuned_with((("engine.path", str(other)),))
    assert (setup.tuned_with(()), setup.tuned.goal) == (setup.tuned, "balanced")
    assert " cuda, sha256 " in found.build
    assert "cuda" not in setup.tuned.build


def test_a_start_of_a_result_warns_only_once_something_has_changed(home):
    setup, best = home.profile().set_up(), (("server.threads", "2"),)
    result = TunedResult(Found(best, (), 1.2, 1.1, 1.3, ""), setup.tuned_with(best))
    write_tuned("mine", result, ProfileStore(home.paths.profiles))
    assert prepare("mine-tuned", {}, home.paths, Silent()).warnings == ()
    fake_server(home.engine, says="another build of the same number")
    (warning,) = prepare("mine-tuned", {}, home.paths, Silent()).warnings
    assert "mine-tuned was tuned under other conditions (engine " in warning
    assert warning.endswith("to measure again: goss-supervisor tune mine")


def test_what_is_fixed_stays(home):
    setup = home.profile().set_up(fixed=("ubatch-size", "threads"))
    assert not {"server.ubatch-size", "server.threads"} & axes(setup)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (
            {"varied": {"threads": ("2", "x")}},
            "--vary threads=x: server.threads: threads takes a whole number",
        ),
        ({"min_context_tokens": 16385}, "no more context than --min-context 16385"),
    ],
)
def test_what_the_profile_cannot_have_is_refused_and_not_left_out(home, wish, said):
    with pytest.raises(UsageError, match=said):
        home.profile(**{"ctx-size": 16384}).set_up(**wish)


def test_what_cannot_be_or_has_no_engine_here_does_not_fit(home):
    setup = home.profile().set_up()
    assert setup.fits((("server.ubatch-size", "1024"),))
    assert not setup.fits((("placement", "engine"), ("server.n-cpu-moe", "2")))
    assert not setup.fits((("server.no-such-option", "2"),))


def test_an_account_beyond_the_guardrails_does_not_fit(home):
    setup = home.profile().set_up(varied={"ctx-size": ("4096", "200000000")})
    assert not setup.fits((("server.ctx-size", "200000000"),))


@pytest.mark.parametrize(
    ("server", "request_", "error"),
    [
        ({}, {"fixed": ("no-such",)}, UsageError),
        ({}, {"fixed": ("threads",), "varied": {"threads": ("1", "2")}}, UsageError),
        ({"ctx-size": 200_000_000}, {}, DoesNotFit),
        ({"ctx-size": 256, "parallel": 8, "kv-unified": True}, {"goal": "batch"}, ConfigError),
    ],
    ids=["an unknown key", "fixed and varied", "does not fit", "no room to measure"],
)
def test_what_cannot_be_tuned_is_refused_before_anything_runs(home, server, request_, error):
    home.profile(**server)
    with pytest.raises(error):
        home.set_up(**request_)


def test_a_profile_that_is_not_there_or_runs_another_program(home):
    with pytest.raises(NotFound):
        home.set_up("nobody")
    (home.profile().paths.profiles / "other.yaml").write_text(
        'engine: {command: [a-server, "{port}"]}\nmodel: demo\n'
    )
    with pytest.raises(UsageError, match="another program"):
        home.set_up("other")


def test_the_journal_is_another_one_for_other_conditions_and_the_same_for_another_budget(home):
    first = home.profile().set_up()
    files = {
        first.file,
        home.set_up(goal="chat").file,
        home.set_up(fixed=("threads",)).file,
        home.profile(threads=1).set_up().file,
    }
    assert len(files) == 4
    assert home.profile().set_up(budget_seconds=60.0).file == first.file
    home.engine.write_text(home.engine.read_text() + "# another build\n")
    assert home.set_up().file != first.file


@pytest.fixture
def with_a_card(home, monkeypatch):
    """A gpt-oss-20b that does not fit onto a card of 8 GB."""
    monkeypatch.setattr("supervisor.prepare.prepare.hardware_of", lambda *_: BOX)
    fake_server(home.engine, devices=[CUDA])
    write_sparse(home.paths.models / "gpt-oss-20b.gguf", "20b")
    return home


def test_the_planners_placement_and_the_engines_own_are_starts_of_their_own(with_a_card):
    home = with_a_card.profile("mine", **{"gpu-layers": 12, "ctx-size": 8192})
    text = (home.paths.profiles / "mine.yaml").read_text()
    model = home.paths.models / "gpt-oss-20b.gguf"
    (home.paths.profiles / "mine.yaml").write_text(text.replace("model: demo", f"model: {model}"))
    setup = home.set_up()
    as_it_is, planned, engines = setup.starts
    assert (as_it_is, engines) == ((), (("placement", "engine"),))
    values = dict(planned)
    assert values["server.gpu-layers"] == "all"
    assert 0 < int(values["server.n-cpu-moe"]) < 24
    assert "server.ctx-size" not in values
    assert {"server.gpu-layers", "server.n-cpu-moe"} <= axes(setup)
    assert setup.fits(planned)
    assert not setup.fits(setup.space.changed(planned, "server.n-cpu-moe", "0")), "too much for the card"
    assert any("CUDA0" in tip.text for tip in tips_of(setup)) == (int(values["server.n-cpu-moe"]) <= 2)


def test_engines_at_hand_are_compared_and_one_that_suits_too_is_named(with_a_card):
    home = with_a_card.profile()
    (home.paths.profiles / "mine.yaml").write_text("model: demo\nserver: {ctx-size: 4096}\n")
    for flavour, device in (("cuda-13.4", CUDA), ("cpu", "(none)")):
        root = folder(home.paths.engines, "ggml-org/llama.cpp", DEFAULT_TAG, flavour)
        binary = str(fake_server(root / "llama-server", devices=[device]))
        proved = view_of(BOX, {})
        write_record(
            root,
            Install(
                "release", "ggml-org/llama.cpp", DEFAULT_TAG, flavour, DEFAULT_TAG, (binary,), (binary,),
                proved_on=proved,
            ),
        )  # fmt: skip
    setup = home.set_up()
    (axis,) = (axis for axis in setup.space.axes if axis.key == "engine.flavour")
    assert set(axis.values) == {"cuda-13.4", "cpu"}
    assert setup.fits((("engine.flavour", "cpu"),))
    assert any("vulkan suits this machine too" in said for said in setup.said)


class Session:
    def __init__(self):
        self.launched = []

    def run(self, plan, *, fresh=False):
        self.launched.append(plan.profile)
        return Target("", "", plan.profile)


def test_the_first_look_scales_the_work_once_and_a_tuning_that_goes_on_measures_the_same(home):
    setup = home.profile().set_up(budget_seconds=300.0)
    session, asked = Session(), []

    def slow(target, workload, seed, limit):
        asked.append(workload)
        return Sample(100.0, 10.0, 0.1, 5.0)

    with opened_journal(setup.file) as journal:
        goal, cost = looked(setup, journal, session, slow)
    assert asked == [LOOK, LOOK], "the first answer reads the model from the disk"
    assert cost == pytest.approx(2048 / 100 + 256 / 10)
    assert goal.workload.prompt_tokens / 100 + goal.workload.answer_tokens / 10 == pytest.approx(2.9, abs=0.2)
    with opened_journal(setup.file) as journal:
        again, _ = looked(setup, journal, session, slow)
    assert (again.workload, len(asked), session.launched) == (goal.workload, 2, ["mine"])
    assert isinstance(again.workload, Workload)
