"""
The answer to ``GET /metrics``: our figures in Prometheus' text format, and llama-server's own among them.

prometheus_client is imported with the first scrape, and by nothing else: it takes 4.6 MB and 50 ms.  `render`
may be called in a thread: each table is copied in one step before it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...server.lifecycle_table import State
from ..seen.figures import Figures, Histogram

if TYPE_CHECKING:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_OURS = "goss_supervisor_"


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """What is so at this moment.  ``state`` is a value of `State`; a memory that is not known is None."""

    name: str
    state: str
    profile: str
    build: str
    flavour: str
    version: str  # of this program
    restarts: int = 0
    memory_bytes: int | None = None
    daemon_bytes: int | None = None
    in_flight: int = 0
    waiting: int = 0
    connections: int = 0


def render(figures: Figures, server: ServerFigures, upstream: bytes | None) -> bytes:
    """All of it, as `CONTENT_TYPE`; of ``upstream``, llama-server's own answer, what can be read."""
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415 - see above

    theirs = _upstream(upstream, server.profile)
    told = _gauge("upstream_metrics_up", "Whether llama-server's own metrics stand below.", bool(theirs))
    families: list[Metric] = [*_of_requests(figures), *_of_profiles(figures), *_of_server(server), told]
    registry: Any = SimpleNamespace(collect=lambda: [*families, *theirs])  # as much as there has to be
    return generate_latest(registry)


def _of_requests(figures: Figures) -> Iterator[Metric]:
    requests = _counter("requests", "Requests that are over.", labels=("endpoint", "code", "profile"))
    for (endpoint, status, profile), count in tuple(figures.requests.items()):
        requests.add_metric([endpoint, "none" if status is None else str(status), profile], count)
    yield requests
    yield _counter("requests_held", "Requests that waited for a server.", figures.held)
    yield _counter("requests_replayed", "Requests sent again to a recovered server.", figures.replayed)
    yield _counter("requests_broken", "Answers that broke off.", figures.results["broken"])
    yield _counter("requests_refused", "Requests refused by the gateway.", figures.results["refused"])
    yield _counter("requests_cancelled", "Requests given up by clients.", figures.results["cancelled"])
    yield _counter("requests_failed", "Requests that got no answer.", figures.results["failed"])
    seconds = _histogram("request_seconds", "From a request to its end.", labels=("endpoint", "profile"))
    for labels, histogram in tuple(figures.seconds.items()):
        _add(seconds, labels, histogram)
    yield seconds


def _of_profiles(figures: Figures) -> Iterator[Metric]:
    first = _histogram("time_to_first_token_seconds", "From a streaming request to the first of its answer.")
    held = _histogram("hold_seconds", "How long requests waited that had to.")
    prompts = _histogram("request_prompt_tokens", "Tokens of a prompt, those cached included.")
    outputs = _histogram("request_output_tokens", "Tokens of an answer.")
    speed = _histogram("output_tokens_per_second", "How fast an answer came, without its prompt.")
    taken = _counter("prompt_tokens", "Tokens of all prompts.", labels=("profile",))
    cached = _counter("prompt_tokens_cached", "Those of them that were cached.", labels=("profile",))
    given = _counter("output_tokens", "Tokens of all answers.", labels=("profile",))
    for name, of in tuple(figures.profiles.items()):
        for family, histogram in (
            (first, of.first_token),
            (held, of.held),
            (prompts, of.prompts),
            (outputs, of.outputs),
            (speed, of.speed),
        ):
            _add(family, (name,), histogram)
        for counter, count in (
            (taken, of.prompt_tokens),
            (cached, of.cached_tokens),
            (given, of.output_tokens),
        ):
            counter.add_metric([name], count)
    yield from (first, held, prompts, outputs, speed, taken, cached, given)


def _of_server(server: ServerFigures) -> Iterator[Metric]:
    yield _gauge("requests_in_flight", "Requests that llama-server is answering.", server.in_flight)
    yield _gauge("requests_waiting", "Requests that are held.", server.waiting)
    yield _gauge("connections", "Connections of clients.", server.connections)
    state = _gauge("server_state", "1 for the state that a server is in.", labels=("server", "state"))
    for each in State:
        state.add_metric([server.name, each.value], each.value == server.state)
    yield state
    restarts = _counter("server_restarts", "How often a server was started again.", labels=("server",))
    restarts.add_metric([server.name], server.restarts)
    yield restarts
    memory = _gauge("server_memory_bytes", "What a server holds of the RAM.", labels=("server",))
    if server.memory_bytes is not None:
        memory.add_metric([server.name], server.memory_bytes)
    yield memory
    yield _gauge("daemon_memory_bytes", "What this program holds of it.", server.daemon_bytes)
    labels = ("version", "build", "profile", "flavour")
    info = _gauge("build_info", "What runs: this program, llama.cpp and its profile.", labels=labels)
    info.add_metric([getattr(server, label) for label in labels], 1)
    yield info


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
