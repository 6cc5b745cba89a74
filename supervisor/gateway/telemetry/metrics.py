"""
Counters over all requests, and ``GET /metrics`` in Prometheus' text format.

prometheus_client takes 4.6 MB and 50 ms, so only the first scrape imports it.  `render` may run in a thread:
it copies each table in one step before reading it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...server.lifecycle_table import State
from .activity import RESULTS, RequestRecord, RequestResult
from .usage_tally import UsageTally

if TYPE_CHECKING:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )

    from ...hardware.sensors import DeviceReading


CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_OURS = "goss_supervisor_"


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """One server at this moment.  ``state`` is a value of `State`; a memory that is not known is None."""

    name: str
    state: str
    profile: str
    build: str
    flavour: str
    restarts: int = 0
    memory_bytes: int | None = None
    context_tokens: int = 0  # that its slots share; 0: each has its own
    context_expected_tokens: int = 0
    context_waiting: int = 0


@dataclass(frozen=True, slots=True)
class DaemonFigures:
    """This program at this moment."""

    version: str
    memory_bytes: int | None = None
    in_flight: int = 0
    waiting: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """One peer at this moment."""

    name: str
    is_up: bool
    models: int
    under_way: int


def render(
    figures: RequestFigures,
    daemon: DaemonFigures,
    servers: Sequence[tuple[ServerFigures, bytes | None]],
    devices: Mapping[str, DeviceReading] = MappingProxyType({}),
) -> bytes:
    """All of it, as `CONTENT_TYPE`; of each server's own answer, which may be None, what can be read."""
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415 - see above

    theirs = [_upstream(text, server.profile) for server, text in servers]
    is_up = _gauge("upstream_metrics_up", "Whether llama-server's own metrics are here.", labels=("server",))
    for (server, _), families in zip(servers, theirs, strict=True):
        is_up.add_metric([server.name], bool(families))
    ours = [
        *_of_requests(figures),
        *_of_profiles(figures.profiles),
        *_of_keys(figures.usage),
        *_of_daemon(daemon),
    ]
    ours += [*_of_servers([server for server, _ in servers], daemon.version), is_up, *_of_devices(devices)]
    ours += _of_peers(figures.peers())
    registry: Any = SimpleNamespace(collect=lambda: [*ours, *_merged(theirs)])  # as much as there has to be
    return generate_latest(registry)


def _of_requests(figures: RequestFigures) -> Iterator[Metric]:
    requests = _counter("requests", "Requests that are over.", labels=("endpoint", "code", "profile"))
    for (endpoint, status, profile), count in tuple(figures.requests.items()):
        requests.add_metric([endpoint, "none" if status is None else str(status), profile], count)
    yield requests
    yield _counter("requests_held", "Requests that waited for a server.", figures.held)
    yield _counter("requests_replayed", "Requests sent again to a recovered server.", figures.replayed)
    yield _counter("requests_broken", "Answers that broke off.", figures.results["broken"])
    yield _counter("requests_refused", "Requests refused by the gateway.", figures.results["refused"])
    yield _counter("requests_cancelled", "Requests given up by clients.", figures.results["cancelled"])
    yield _counter(
        "requests_failed",
        "Requests that got no answer, or an error in their stream.",
        figures.results["failed"],
    )
    seconds = _histogram("request_seconds", "From a request to its end.", labels=("endpoint", "profile"))
    for labels, histogram in tuple(figures.seconds.items()):
        _add(seconds, labels, histogram)
    yield seconds


_PROFILE_HISTOGRAMS = {
    "first_token": ("time_to_first_token_seconds", "From a streaming request to the first of its answer."),
    "held": ("hold_seconds", "How long requests waited that had to."),
    "room": ("context_wait_seconds", "How long requests waited for room in a shared context."),
    "prompts": ("request_prompt_tokens", "Tokens of a prompt, those cached included."),
    "outputs": ("request_output_tokens", "Tokens of an answer."),
    "speed": ("output_tokens_per_second", "How fast an answer came, without its prompt."),
}
_PROFILE_COUNTERS = {
    "prompt_tokens": ("prompt_tokens", "Tokens of all prompts."),
    "cached_tokens": ("prompt_tokens_cached", "Those of them that were cached."),
    "output_tokens": ("output_tokens", "Tokens of all answers."),
    "drafted_tokens": ("drafted_tokens", "Tokens that drafts proposed."),
    "accepted_tokens": ("drafted_tokens_accepted", "Tokens of drafts that were right."),
}
_KEY_COUNTERS = {
    "requests": ("key_requests", "Requests of a key to models."),
    "failed": ("key_requests_failed", "Those of them that got an error."),
    "uncounted": ("key_requests_uncounted", "Those of them whose tokens are not known."),
    "seconds": ("key_request_seconds", "How long they took, waiting included."),
    "prompt_tokens": ("key_prompt_tokens", "Tokens of their prompts."),
    "cached_tokens": ("key_prompt_tokens_cached", "Those of them that were cached."),
    "output_tokens": ("key_output_tokens", "Tokens of their answers."),
}


def _of_profiles(profiles: Mapping[str, ProfileFigures]) -> Iterator[Metric]:
    of_each = tuple(profiles.items())
    for attribute, (name, what) in _PROFILE_HISTOGRAMS.items():
        family = _histogram(name, what)
        for profile, figures in of_each:
            _add(family, (profile,), getattr(figures, attribute))
        yield family
    for attribute, (name, what) in _PROFILE_COUNTERS.items():
        counter = _counter(name, what, labels=("profile",))
        for profile, figures in of_each:
            counter.add_metric([profile], getattr(figures, attribute))
        yield counter


def _of_keys(usage: UsageTally) -> Iterator[Metric]:
    of_each = tuple(usage.since_start.items())
    for attribute, (name, what) in _KEY_COUNTERS.items():
        counter = _counter(name, what, labels=("key", "profile"))
        for place, sums in of_each:
            counter.add_metric([place.key, place.model], getattr(sums, attribute))
        yield counter


def _of_daemon(daemon: DaemonFigures) -> Iterator[Metric]:
    yield _gauge("requests_in_flight", "Requests that are being answered.", daemon.in_flight)
    yield _gauge("requests_waiting", "Requests that are held.", daemon.waiting)
    yield _gauge("connections", "Connections of clients.", daemon.connections)
    yield _gauge("daemon_memory_bytes", "What this program holds of the RAM.", daemon.memory_bytes)


def _of_servers(servers: Sequence[ServerFigures], version: str) -> Iterator[Metric]:
    state = _gauge("server_state", "1 for the state that a server is in.", labels=("server", "state"))
    restarts = _counter("server_restarts", "How often a server was started again.", labels=("server",))
    memory = _gauge("server_memory_bytes", "What a server holds of the RAM.", labels=("server",))
    shared = _gauge("context_tokens", "Tokens of a context that all slots share.", labels=("server",))
    expected = _gauge(
        "context_expected_tokens", "What requests under way are expected to take of it.", labels=("server",)
    )
    room = _gauge("context_requests_waiting", "Requests that wait for room in it.", labels=("server",))
    labels = ("version", "build", "profile", "flavour")
    info = _gauge("build_info", "What runs: this program, llama.cpp and its profile.", labels=labels)
    for server in servers:
        for each in State:
            state.add_metric([server.name, each.value], each.value == server.state)
        restarts.add_metric([server.name], server.restarts)
        if server.memory_bytes is not None:
            memory.add_metric([server.name], server.memory_bytes)
        if server.context_tokens:
            shared.add_metric([server.name], server.context_tokens)
            expected.add_metric([server.name], server.context_expected_tokens)
            room.add_metric([server.name], server.context_waiting)
        info.add_metric([version, server.build, server.profile, server.flavour], 1)
    yield from (state, restarts, memory, shared, expected, room, info)


def _of_peers(peers: Sequence[PeerFigures]) -> Iterator[Metric]:
    """Nothing where there are none."""
    if not peers:
        return
    up = _gauge("peer_up", "1 while a peer answers.", labels=("peer",))
    models = _gauge("peer_models", "Models of a peer that are served here.", labels=("peer",))
    under_way = _gauge("peer_requests_in_flight", "Requests that a peer answers now.", labels=("peer",))
    for peer in peers:
        up.add_metric([peer.name], peer.is_up)
        models.add_metric([peer.name], peer.models)
        under_way.add_metric([peer.name], peer.under_way)
    yield from (up, models, under_way)


_DEVICE_GAUGES = {
    "load_percent": ("device_load_ratio", "How busy a device is, 1 is fully.", 100),
    "temperature_c": ("device_temperature_celsius", "How hot a device is.", 1),
    "power_watts": ("device_power_watts", "What a device draws.", 1),
    "power_limit_watts": ("device_power_limit_watts", "What it may draw.", 1),
    "memory_used_bytes": ("device_memory_used_bytes", "What all programs use of a device's memory.", 1),
    "memory_total_bytes": ("device_memory_total_bytes", "How much memory a device has.", 1),
}


def _of_devices(devices: Mapping[str, DeviceReading]) -> Iterator[Metric]:
    """What is not known has no sample."""
    for key, (name, what, divisor) in _DEVICE_GAUGES.items():
        gauge = _gauge(name, what, labels=("device", "name"))
        for device, reading in devices.items():
            if (value := getattr(reading, key)) is not None:
                gauge.add_metric([device, reading.name], value / divisor)
        yield gauge


def _merged(of_servers: Sequence[Sequence[Metric]]) -> list[Metric]:
    """One family for each name, with the samples of all servers; of two kinds by one name, the first."""
    merged: dict[str, Metric] = {}
    for families in of_servers:
        for family in families:
            first = merged.setdefault(family.name, family)
            if first is not family and first.type == family.type:
                first.samples += family.samples
    return list(merged.values())


def _upstream(text: bytes | None, profile: str) -> list[Metric]:
    """llama-server's families with the label ``profile``; none where the text is not as it should be."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    try:
        decoded = (text or b"").decode()
        families = list(text_string_to_metric_families(decoded))
    except (ValueError, LookupError):  # what its parser raises for a text that is none
        return []
    names = {family.name for family in families}
    if len(names) < len(families) or any(name.startswith(_OURS) for name in names):
        return []
    for family in families:
        family.samples = [
            each._replace(labels={**each.labels, "profile": profile}) for each in family.samples
        ]
        if family.type == "counter" and f"# TYPE {family.name}_total " not in decoded:
            _as_gauge(family)
    return families


def _as_gauge(family: Metric) -> None:
    """
    A "counter" without ``_total``, as llama-server's ``n_tokens_max`` (b11434): the parser adds the ending,
    and dashboards look for the name that llama-server writes.
    """
    family.type = "gauge"
    family.samples = [sample._replace(name=sample.name.removesuffix("_total")) for sample in family.samples]


def _counter(
    name: str, what: str, value: float | None = None, *, labels: Sequence[str] | None = None
) -> CounterMetricFamily:
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415

    return CounterMetricFamily(_OURS + name, what, value, labels)


def _gauge(
    name: str, what: str, value: float | None = None, *, labels: Sequence[str] | None = None
) -> GaugeMetricFamily:
    """With neither value nor labels it has no sample: not known."""
    from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: PLC0415

    return GaugeMetricFamily(_OURS + name, what, value, labels)


def _histogram(name: str, what: str, *, labels: Sequence[str] = ("profile",)) -> HistogramMetricFamily:
    from prometheus_client.metrics_core import HistogramMetricFamily  # noqa: PLC0415

    return HistogramMetricFamily(_OURS + name, what, labels=labels)


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    counts = list(accumulate(histogram.counts))
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.total)


FIRST_TOKEN_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""From a cached prompt on a GPU to 32,000 tokens read by a CPU at a hundred each second."""

SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Of a whole request, from an embedding to an agent's long answer; 600 is how long one is held by default."""

TOKENS_PER_SECOND = tuple(map(float, (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)))
"""Closest where it matters most: people read 5 to 10, gpt-oss-120b with its experts in RAM gives 10 to 40."""

TOKENS = (1.0, 16.0, 64.0, 256.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0)
"""Powers of two, as context sizes are; the last is the whole context of gpt-oss."""


class Histogram:
    """How many values were at most as large as each bound, and beyond the last; and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # each on its own, not summed up
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class ProfileFigures:
    """What one profile answered."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    held: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    room: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    prompts: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    outputs: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    speed: Histogram = field(default_factory=lambda: Histogram(TOKENS_PER_SECOND))

    def count(self, request: RequestRecord) -> None:
        if request.held_seconds > 0.0:
            self.held.add(request.held_seconds)
        if request.context_wait_seconds > 0.0:
            self.room.add(request.context_wait_seconds)
        if request.stream and request.status == 200 and request.first_byte_seconds is not None:
            self.first_token.add(request.first_byte_seconds)
        if request.prompt_tokens is not None:
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens or 0
            self.prompts.add(request.prompt_tokens)
        if request.output_tokens is not None:
            self.output_tokens += request.output_tokens
            self.outputs.add(request.output_tokens)
        self.drafted_tokens += request.drafted_tokens or 0
        self.accepted_tokens += request.accepted_tokens or 0
        if request.tokens_per_second is not None:
            self.speed.add(request.tokens_per_second)


class RequestFigures:
    """By endpoint (our routes' labels), status and profile (those offered), so there is a bound on all."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int | None, str]] = Counter()
        self.seconds: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.results: dict[RequestResult, int] = dict.fromkeys(RESULTS, 0)
        self.held = 0
        self.replayed = 0
        self.profiles: dict[str, ProfileFigures] = defaultdict(ProfileFigures)
        self.usage = UsageTally()
        self.peers: Callable[[], Sequence[PeerFigures]] = tuple

    def count(self, request: RequestRecord) -> None:
        """Add one request that is over."""
        self.requests[request.endpoint, request.status, request.profile] += 1
        self.results[request.result] += 1
        self.held += request.held_seconds > 0.0
        self.replayed += request.replayed
        self.seconds[request.endpoint, request.profile].add(request.seconds)
        self.profiles[request.profile].count(request)
        self.usage.note(request)
