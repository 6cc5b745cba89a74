"""Models from the hub to disk, over a network and onto disks that do not play along."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from supervisor.download.network import RetryPolicy
from supervisor.errors import NetworkError, NotFound, SupervisorError, UsageError, VerificationFailed
from supervisor.model.hub import Hub
from supervisor.model.local_models import find, known_digest, list_models, verify
from supervisor.model.locate import locate
from supervisor.model.open import open_model
from supervisor.model.pull import Pulled, ensure_model, pull
from supervisor.paths import Paths
from supervisor.progress import Silent
from tests.fakes.hub import SPLIT, FakeHub, split_demo
from tests.fakes.web import corrupt, cut, held, status

REPO = "me/demo-GGUF"
TOKEN = "hf_secret"
posix = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


@dataclass
class Heard(Silent):
    steps: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)


@dataclass
class Bench:
    fake: FakeHub
    root: Path
    parts: dict[str, bytes] = field(repr=False)
    heard: Heard = field(default_factory=Heard)
    slept: list[float] = field(default_factory=list)

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def folder(self) -> Path:
        return self.models / REPO

    @property
    def environ(self) -> dict[str, str]:
        return {"XDG_CACHE_HOME": str(self.root / "cache")}

    def pull(self, file: str | None = None, *, token: str = "", repo: str = REPO) -> Pulled:
        hub = Hub(self.fake.api.url(), token, RetryPolicy(sleep=self.slept.append))
        return pull(repo, file, self.models, self.environ, self.heard, hub=hub)

    def fault(self, part: int, *faults) -> None:
        self.fake.storage.fault(self.fake.stored(REPO, SPLIT[part]), *faults)

    def put(self, folder: Path, names=SPLIT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_bytes(self.parts[name])

    def whole(self) -> bool:
        return all((self.folder / name).read_bytes() == body for name, body in self.parts.items())


@pytest.fixture
def bench(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    parts = split_demo(tmp_path / "parts")
    with FakeHub() as fake:
        fake.add(REPO, {"README.md": b"hello", **parts})
        yield Bench(fake, tmp_path, parts)


# When all goes well


def test_all_parts_of_a_model_arrive_and_are_one(bench):
    found = bench.pull()
    assert found.downloaded
    assert found.path == bench.folder / SPLIT[0]
    assert bench.whole()
    assert open_model(found.path).layers == 2
    assert [step.split(" from ")[0] for step in bench.heard.steps] == [
        f"downloading {SPLIT[0]} (1 of 2)",
        f"downloading {SPLIT[1]} (2 of 2)",
    ]


@pytest.mark.parametrize("file", [SPLIT[0], SPLIT[1], "demo"])
def test_what_is_there_is_not_downloaded_again(bench, file):
    bench.pull()
    asked = len(bench.fake.storage.requests)
    again = bench.pull(file)
    assert not again.downloaded
    assert again.path == bench.folder / SPLIT[0]
    assert len(bench.fake.storage.requests) == asked


def test_a_model_that_is_there_needs_no_network(bench):
    bench.pull()
    bench.fake.api.requests.clear()
    assert not bench.pull(SPLIT[0]).downloaded
    assert bench.fake.api.requests == []


def test_what_another_program_downloaded_is_used_where_it_lies(bench):
    snapshot = bench.root / "cache" / "huggingface" / "hub" / "models--me--demo-GGUF" / "snapshots" / "1"
    bench.put(snapshot)
    for file in (None, SPLIT[0], "demo"):
        assert bench.pull(file) == Pulled(tuple(snapshot / name for name in SPLIT), downloaded=False)
    assert bench.fake.storage.requests == []
    assert not bench.models.exists()


def test_what_another_program_has_only_a_part_of_is_not_used(bench):
    snapshot = bench.root / "cache" / "huggingface" / "hub" / "models--me--demo-GGUF" / "snapshots" / "1"
    bench.put(snapshot, SPLIT[:1])
    assert bench.pull(SPLIT[0]).path == bench.folder / SPLIT[0]
    assert bench.whole()


def test_a_whole_model_in_a_cache_comes_before_a_part_of_ours(bench):
    snapshot = bench.root / "cache" / "huggingface" / "hub" / "models--me--demo-GGUF" / "snapshots" / "1"
    bench.put(bench.folder, SPLIT[:1])
    assert locate(REPO, SPLIT[0], bench.models, bench.environ) == bench.folder / SPLIT[0]
    bench.put(snapshot)
    assert locate(REPO, SPLIT[0], bench.models, bench.environ) == snapshot / SPLIT[0]


def test_a_start_gets_its_model_the_same_way(bench, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", bench.fake.api.url())
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.root / "cache"))
    paths = Paths.under(bench.root / "home")
    assert ensure_model(REPO, SPLIT[0], paths, bench.heard) == paths.models / REPO / SPLIT[0]


def test_a_model_in_a_folder_of_its_repository_lies_in_that_folder_here(bench):
    bench.fake.add("me/many", {"Q4/m.gguf": b"GGUF4", "Q8/m.gguf": b"GGUF88"})
    assert bench.pull("Q8", repo="me/many").path == bench.models / "me" / "many" / "Q8" / "m.gguf"
    with pytest.raises(UsageError, match="can be 2 models"):
        bench.pull("m", repo="me/many")


# What goes wrong on the way


def test_a_download_that_was_cut_goes_on(bench):
    bench.fault(0, cut(1_000_000))
    assert bench.pull().downloaded
    assert bench.whole()
    assert bench.fake.ranges(SPLIT[0]) == [None, "bytes=1000000-"]


def test_a_second_call_goes_on_where_the_first_gave_up(bench):
    bench.fault(1, cut(500_000), status(404))
    with pytest.raises(NotFound):
        bench.pull()
    (model,) = list_models(bench.models, bench.environ)
    assert [part.name for part in model.missing] == [SPLIT[1]]
    assert model.size_bytes == len(bench.parts[SPLIT[0]]) + 500_000
    bench.pull()
    assert bench.whole()
    assert bench.fake.ranges(SPLIT[0]) == [None]
    assert bench.fake.ranges(SPLIT[1]) == [None, "bytes=500000-", "bytes=500000-"]


def test_corrupt_bytes_are_noticed_and_fetched_again(bench):
    bench.fault(1, corrupt(1234))
    bench.pull()
    assert bench.whole()
    assert bench.fake.ranges(SPLIT[1]) == [None, None]


def test_what_stays_corrupt_is_not_kept(bench):
    bench.fault(1, corrupt(1), corrupt(2))
    with pytest.raises(VerificationFailed, match=r"demo-00002-of-00002\.gguf .* is not what it should be"):
        bench.pull()
    assert not (bench.folder / SPLIT[1]).exists()


def test_a_part_that_the_hub_lacks_is_said_before_anything_is_fetched(bench):
    bench.fake.add(REPO, {SPLIT[0]: bench.parts[SPLIT[0]]})
    with pytest.raises(VerificationFailed, match="only 1 of the 2 parts"):
        bench.pull()
    assert bench.fake.storage.requests == []


def test_a_gated_model_is_told_with_what_to_do_and_the_token_stays_at_the_hub(bench):
    bench.fake.gate(REPO, TOKEN)
    with pytest.raises(NetworkError, match="is gated") as raised:
        bench.pull()
    assert f"{bench.fake.api.url()}/{REPO}" in raised.value.hint
    bench.pull(token=TOKEN)
    assert bench.whole()
    assert {each.headers.get("authorization") for each in bench.fake.api.requests[-3:]} == {f"Bearer {TOKEN}"}
    assert bench.fake.storage.requests
    assert all("authorization" not in request.headers for request in bench.fake.storage.requests)


def test_a_limit_is_waited_for_where_it_is_short_and_told_where_it_is_long(bench):
    path = bench.fake.resolve(REPO, SPLIT[0])
    bench.fake.api.fault(path, status(429, {"RateLimit": '"resolvers";r=0;t=50'}))
    bench.pull()
    assert bench.slept == [50.0]
    shutil.rmtree(bench.folder)
    bench.fake.api.fault(path, status(429, {"RateLimit": '"resolvers";r=0;t=290'}))
    with pytest.raises(NetworkError, match="asks not to come back for 290 s") as raised:
        bench.pull()
    assert "engine." not in raised.value.hint


def test_a_second_pull_waits_for_the_first_and_fetches_nothing(bench):
    gate = threading.Event()
    bench.fault(0, held(1000, gate))
    first = threading.Thread(target=bench.pull)
    first.start()
    bench.fake.storage.wait_for_requests(1)

    class Opening(Heard):
        def step(self, text: str) -> None:
            super().step(text)
            if text.startswith("waiting: "):
                gate.set()

    heard = Opening()
    hub = Hub(bench.fake.api.url())
    pull(REPO, None, bench.models, bench.environ, heard, hub=hub)
    first.join(30)
    assert heard.steps[0].startswith("waiting: another goss-supervisor is downloading")
    assert bench.whole()
    assert [bench.fake.ranges(name) for name in SPLIT] == [[None], [None]]


# The disk


def test_a_disk_without_room_for_all_parts_is_told_before_the_first(bench, monkeypatch):
    total = sum(map(len, bench.parts.values()))
    usage = shutil.disk_usage(bench.root)._replace(free=total - 1 + (64 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SupervisorError, match=r"needs 67\.4 MiB of disk"):
        bench.pull()
    assert bench.fake.storage.requests == []
    bench.put(bench.folder, SPLIT[:1])
    bench.pull()
    assert bench.fake.ranges(SPLIT[0]) == []


@posix
def test_a_disk_that_is_full_in_the_middle_keeps_what_came(bench, tmp_path):
    import resource
    import subprocess

    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from supervisor.__main__ import main; sys.exit(main())"
    )
    assert resource.RLIMIT_FSIZE >= 0
    env = {**os.environ, **bench.environ, **bench.fake.env, "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, "model", "pull", REPO]
    full = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert full.returncode == 1
    assert "cannot be written: File too large" in full.stderr
    assert "Traceback" not in full.stderr
    part = tmp_path / "home" / "data" / "models" / REPO / f"{SPLIT[0]}.part"
    assert part.stat().st_size == 1 << 20
    again = subprocess.run(
        [sys.executable, "-m", "supervisor", *command[3:]],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 0, again.stderr
    assert bench.fake.ranges(SPLIT[0]) == [None, "bytes=1048576-"]


# Whether it is still what it was


def test_a_model_is_verified_without_the_network(bench):
    bench.pull()
    bench.fake.close()
    found = find("demo", list_models(bench.models, bench.environ))
    assert all(each.ok for each in verify(found, pytest.fail, Silent()))
    (bench.folder / SPLIT[1]).write_bytes(bench.parts[SPLIT[1]][:-1] + b"x")
    assert [each.ok for each in verify(found, pytest.fail, Silent())] == [True, False]


def test_the_digest_lies_beside_the_file_as_sha256sum_has_it(bench):
    bench.pull()
    expected = sha256(bench.parts[SPLIT[1]]).hexdigest()
    assert (bench.folder / f"{SPLIT[1]}.sha256").read_text() == f"{expected}  {SPLIT[1]}\n"


def test_the_hub_is_asked_for_the_digest_of_what_came_another_way_and_it_is_kept(bench):
    bench.put(bench.folder)
    found = find(f"{REPO}:{SPLIT[0]}", list_models(bench.models, bench.environ))
    assert all(each.ok for each in verify(found, lambda: Hub(bench.fake.api.url()), Silent()))
    assert all(each.ok for each in verify(found, pytest.fail, Silent()))


@posix
def test_the_hugging_face_cache_tells_digests_by_its_links(bench):
    repo = bench.root / "cache" / "huggingface" / "hub" / "models--me--demo-GGUF"
    (repo / "blobs").mkdir(parents=True)
    (repo / "snapshots" / "1").mkdir(parents=True)
    for name, body in bench.parts.items():
        blob = repo / "blobs" / sha256(body).hexdigest()
        blob.write_bytes(body)
        (repo / "snapshots" / "1" / name).symlink_to(blob)
    found = find("demo", list_models(bench.models, bench.environ))
    assert all(each.ok for each in verify(found, pytest.fail, Silent()))


def test_a_model_that_nobody_knows_and_one_that_is_not_whole_cannot_be_verified(bench):
    bench.put(bench.models)
    loose = find("demo", list_models(bench.models, bench.environ))
    with pytest.raises(SupervisorError, match="Nobody knows what"):
        verify(loose, pytest.fail, Silent())
    (bench.models / SPLIT[1]).unlink()
    with pytest.raises(NotFound, match="incomplete"):
        verify(loose, pytest.fail, Silent())


def test_a_part_of_an_older_upload_does_not_stay_among_new_ones(bench):
    bench.fault(1, status(404))
    with pytest.raises(NotFound):
        bench.pull()
    newer = {name: body[:-1] + b"n" for name, body in bench.parts.items()}
    bench.fake.add(REPO, newer)
    bench.pull()
    assert {name: (bench.folder / name).read_bytes() for name in SPLIT} == newer
    assert known_digest(bench.folder / SPLIT[0]) == sha256(newer[SPLIT[0]]).hexdigest()
