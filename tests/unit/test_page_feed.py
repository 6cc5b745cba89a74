"""What the page hears and when: computed once for all who look, only while somebody does, and nothing twice."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from supervisor.gateway.http_heads import parse_head
from supervisor.gateway.pages.page_feed import PageFeed, PageViewer, is_much_the_same, number_to_resume
from supervisor.gateway.telemetry.activity import KEPT, Activity, RequestRecord

DAY = 86_400


def record(**more):
    given = {
        "caller": "",
        "method": "POST",
        "endpoint": "/v1/x",
        "profile": "p",
        "model": "",
        "stream": False,
    }
    return RequestRecord(at=0.0, status=200, result="answered", seconds=1.0, **given, **more)


class Browser:
    """The end of a stream: what came, in order, and whether it takes anything."""

    def __init__(self):
        self.is_paused = False
        self.bytes = self.beats = 0
        self.events = []
        self.ended = False

    def begin(self):
        pass

    def send(self, piece):
        self.bytes += len(piece)
        if piece.startswith(b":"):
            self.beats += 1
            return
        fields = dict(line.split(": ", 1) for line in piece.decode().splitlines() if line)
        self.events.append((fields["event"], fields["id"], json.loads(fields["data"])))

    def end(self, *, keep_alive=True):
        self.ended = True

    def take(self, kind):
        """The documents of this kind that came since the last look at them."""
        found = [document for name, _, document in self.events if name == kind]
        self.events = [each for each in self.events if each[0] != kind]
        return found

    def numbers(self):
        return [each["number"] for batch in self.take("requests") for each in batch["requests"]]


class Gateway:
    """All that the feed looks at; time is told."""

    def __init__(self):
        self.activity, self.now, self.active = Activity(), self, []
        self.hardware, self.happened, self.document = self, 0, {"state": "ready", "uptime_seconds": 0.0}
        self.history, self.listeners, self.statuses, self.time = [], [], 0, 0.0
        self.feed = PageFeed(self, self)

    def counts(self):
        return len(self.active), 0, 1

    def status(self):
        self.statuses += 1
        return dict(self.document, uptime_seconds=self.time)

    def subscribe(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def sample(self, **more):
        self.history.append(more)
        for each in self.listeners:
            each(more)

    def open(self, last=None, *, stays=lambda: True, followed=None):
        browser = Browser()
        viewer = PageViewer(
            browser,
            self.feed,
            "b00",
            last,
            now=lambda: self.time,
            stays=stays,
            soon=lambda: None,
            followed=followed,
        )
        viewer.begin_waiting()
        self.feed.look(self.time)
        return browser, viewer

    def pass_time(self, seconds=1.0):
        self.time += seconds
        return self.feed.look(self.time)


@pytest.fixture
def it():
    return Gateway()


def test_nothing_is_computed_while_nobody_looks(it):
    for _ in range(100):
        it.pass_time()
    assert (it.statuses, it.listeners) == (0, [])
    _, viewer = it.open()
    assert (it.statuses, len(it.listeners)) == (1, 1)
    viewer.client_left()
    for _ in range(100):
        it.pass_time()
    assert (it.statuses, it.listeners) == (1, [])


def test_one_computation_is_for_all_who_look(it):
    browsers = [it.open()[0] for _ in range(20)]
    for _ in range(60):
        it.happened += 1
        it.document["state"] = str(it.happened)
        it.pass_time()
    assert it.statuses == 61
    assert len(it.listeners) == 1
    assert all(len(browser.take("status")) == 61 for browser in browsers)


def test_a_status_is_looked_at_once_a_second_and_rarely_while_nothing_happens(it):
    it.open()
    for _ in range(40):
        it.happened += 1
        it.pass_time(0.25)
    assert it.statuses == 11
    before = it.statuses
    for _ in range(100):
        it.pass_time()
    assert it.statuses - before <= 20


def test_what_only_follows_the_clock_is_not_sent(it):
    browser, _ = it.open()
    assert len(browser.take("status")) == len(browser.take("active")) == 1
    browser.events.clear()
    for _ in range(60):
        it.happened += 1
        it.pass_time()
    assert browser.events == []
    assert browser.beats == 4


@pytest.mark.parametrize(
    ("new", "same"),
    [
        ({"uptime_seconds": 9, "state": "ready", "rss_bytes": 100_000_000}, True),
        ({"uptime_seconds": None, "state": "ready", "rss_bytes": 100_000_000}, False),
        ({"uptime_seconds": 1, "state": "failed", "rss_bytes": 100_000_000}, False),
        ({"uptime_seconds": 1, "state": "ready", "rss_bytes": 100_900_000}, True),
        ({"uptime_seconds": 1, "state": "ready", "rss_bytes": 101_100_000}, False),
        ({"uptime_seconds": 1, "state": "ready", "rss_bytes": None}, False),
        ({"uptime_seconds": 1, "state": "ready"}, False),
    ],
)
def test_two_statuses_are_much_the_same(new, same):
    old = {"uptime_seconds": 1, "state": "ready", "rss_bytes": 100_000_000}
    assert is_much_the_same(new, old) is same
    assert is_much_the_same([{"a": new}], [{"a": old}]) is same


def test_bytes_by_device_move_a_little_too():
    assert is_much_the_same({"gpu_bytes": {"CUDA0": 10**9 + 1}}, {"gpu_bytes": {"CUDA0": 10**9}})
    assert not is_much_the_same({"gpu_bytes": {"CUDA0": 2 * 10**9}}, {"gpu_bytes": {"CUDA0": 10**9}})


def test_memory_that_creeps_is_told_in_the_end(it):
    it.document["rss_bytes"] = 100_000_000
    browser, _ = it.open()
    browser.take("status")
    for _ in range(60):
        it.document["rss_bytes"] += 500_000
        it.pass_time(5.0)
    told = [each["rss_bytes"] for each in browser.take("status")]
    assert len(told) > 10
    assert told[-1] > 129_000_000


def test_all_kept_requests_come_first_in_pieces_then_each_that_ends(it):
    for _ in range(KEPT + 5):
        it.activity.add(record())
    browser, _ = it.open()
    while it.pass_time(0.05):
        pass
    batches = browser.take("requests")
    assert [len(batch["requests"]) for batch in batches] == [250] * 4
    assert [each["number"] for batch in batches for each in batch["requests"]] == [*range(6, KEPT + 6)]
    it.activity.add(record(note="x"))
    it.pass_time()
    ((row,),) = [batch["requests"] for batch in browser.take("requests")]
    assert (row["number"], row["note"]) == (KEPT + 6, "x")


def test_an_id_names_the_last_request_that_was_sent_with_it_or_before(it):
    for _ in range(300):
        it.activity.add(record())
    browser, _ = it.open()
    it.pass_time(0.05)
    ids = [(kind, id_) for kind, id_, _ in browser.events]
    assert ids[0] == ("hello", "b00.0")
    assert [id_ for kind, id_ in ids if kind == "requests"] == ["b00.250", "b00.300"]


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("b00.1200", 1200),
        ("b00.1900", 1900),
        ("b00.2000", 2000),
        ("b00.2001", None),  # more than there are
        ("b00.999", None),  # some since are not kept any more
        ("b01.1900", None),  # of another daemon
        ("1900", None),
        ("b00.-1", None),
        ("", None),
    ],
)
def test_a_stream_goes_on_behind_what_the_browser_has_if_nothing_is_missing(said, number):
    for target, header in (("events", f"last-event-id: {said}"), (f"events?last={said}", "x: y")):
        head = parse_head(f"GET /supervisor/{target} HTTP/1.1\r\nhost: a\r\n{header}\r\n\r\n".encode())
        assert number_to_resume(head, "b00", 2000, 1000) == number


def test_who_comes_back_gets_no_request_twice_and_misses_none(it):
    for _ in range(10):
        it.activity.add(record())
    browser, viewer = it.open()
    (hello,) = browser.take("hello")
    seen = browser.numbers()
    viewer.client_left()
    for _ in range(10):
        it.activity.add(record())
    browser, _ = it.open(last=seen[-1])
    assert (hello["resumed"], browser.take("hello")[0]["resumed"]) == (False, True)
    assert seen + browser.numbers() == [*range(1, 21)]


def test_who_reads_too_slowly_gets_the_newest_and_no_backlog(it):
    browser, _ = it.open()
    browser.events.clear()
    browser.is_paused = True
    for number in range(3 * KEPT):
        it.document["state"] = str(number)
        it.happened += 1
        it.active = [{"output_tokens": number}]
        it.activity.add(record())
        it.sample(at=number)
        it.pass_time()
    assert (browser.events, browser.bytes > 0) == ([], True)
    browser.is_paused = False
    while it.pass_time(0.05):
        pass
    assert [each["state"] for each in browser.take("status")] == [str(3 * KEPT - 1)]
    assert browser.take("active") == [{"active": [{"output_tokens": 3 * KEPT - 1}]}]
    assert browser.numbers() == [*range(2 * KEPT + 1, 3 * KEPT + 1)]
    assert samples_of(browser) == it.history


def test_samples_of_the_hardware_come_after_the_history(it):
    it.sample(at=1)
    browser, _ = it.open()
    it.sample(at=2)
    it.pass_time()
    it.pass_time()
    assert browser.take("hardware") == [{"history": [{"at": 1}]}, {"sample": {"at": 2}}]


def samples_of(browser):
    """As the page takes them: a history begins anew."""
    found = []
    for told in browser.take("hardware"):
        assert len(told) == 1
        found = list(told["history"]) if "history" in told else found
        found += told.get("samples", []) + [told[each] for each in told if each == "sample"]
    return found


def test_an_hour_of_samples_comes_in_pieces_and_then_each(it):
    it.history = [{"at": number} for number in range(720)]
    browser, _ = it.open()
    it.pass_time(0.05)
    it.sample(at=720)  # meanwhile
    while it.pass_time(0.05):
        pass
    assert max(len(document.get("samples", ())) for _, _, document in browser.events) == 60
    assert samples_of(browser) == [{"at": number} for number in range(721)]


def test_who_follows_a_log_hears_of_nothing_else(it):
    class Log:
        server, resets, count, lines = "chat", 1, 2, ["a", "b"]

        def look(self):
            pass

    it.activity.add(record())
    browser, _ = it.open(followed=Log())
    it.sample(at=1)
    it.pass_time()
    assert [kind for kind, _, _ in browser.events] == ["hello", "log"]
    assert browser.take("log") == [{"server": "chat", "lines": ["a", "b"], "reset": True}]


def test_who_may_not_look_any_more_leaves_within_seconds(it):
    may = True
    browser, _ = it.open(stays=lambda: may)
    it.pass_time(6)
    assert not browser.ended
    may = False
    for _ in range(6):
        it.pass_time()
    assert (browser.ended, it.feed.viewers, it.listeners) == (True, set(), [])


def happens(it, second):
    """What may happen in a second of a busy day."""
    if second % 60 == 0:
        it.activity.add(record(note=str(second)))
        it.happened += 1
        it.document["state"] = str(second)
    if second % 5 == 0:
        it.history = [*it.history[-3:], {"at": second}]
        it.sample(at=second)
    it.active = [{"output_tokens": second}] if second % 600 < 20 else []


def test_a_day_in_fast_motion_loses_nothing(it):
    """Two pages: one is read, one is away for hours and comes back to what it has missed."""
    (near, _), (far, _) = it.open(), it.open()
    seen = {near: [], far: []}
    for second in range(0, DAY, 4):
        happens(it, second)
        far.is_paused = 30_000 < second < 60_000
        it.pass_time(4.0)
        for browser, numbers in seen.items():
            if browser.events:
                numbers.extend(browser.numbers())
                browser.events.clear()
    assert seen == {near: [*range(1, DAY // 60 + 1)], far: [*range(1, DAY // 60 + 1)]}
    assert it.statuses < DAY / 4
    assert near.bytes / DAY < 200  # a second
    assert near.beats == DAY // 16


def test_a_page_that_stays_open_takes_no_memory(it):
    it.activity = it.feed.activity = Activity(20)
    browser, _ = it.open()

    def go_on(seconds):
        for _ in range(seconds):
            happens(it, int(it.time))
            it.pass_time()
            browser.events.clear()

    go_on(1)
    tracemalloc.start()
    go_on(1500)  # all that is kept was made meanwhile
    before = tracemalloc.get_traced_memory()[0]
    go_on(3000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 3000  # bytes; one for each second
