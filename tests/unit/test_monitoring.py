"""The dashboard and the alert rules in share/ ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from supervisor.gateway.telemetry.metrics import DaemonFigures, RequestFigures, ServerFigures, render
from supervisor.hardware.sensors import DeviceReading

from ..fakes.asked import a_chat

SHARE = Path(__file__).parents[2] / "share"
ALERTS = SHARE / "prometheus" / "alerts.yaml"
DASHBOARD = json.loads((SHARE / "grafana" / "goss-supervisor.json").read_text("utf-8"))
RULES = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"instance", "job"}
NAME = re.compile(r"\b(?:goss_supervisor_|llamacpp:)\w+")
SELECTOR = re.compile(r"\b(\w+)\{([^}]*)\}")
BY = re.compile(r"\bby \(([^)]*)\)")


def labels_by_name():
    """Of every sample that there can be."""
    figures = RequestFigures()
    figures.count(
        a_chat(
            held_seconds=1.0,
            context_wait_seconds=1.0,
            first_byte_seconds=1.0,
            prompt_tokens=1,
            cached_tokens=1,
            output_tokens=1,
            tokens_per_second=1.0,
        )
    )
    server = ServerFigures("default", "ready", "p", "b1", "cpu", 1, 1, 1, 1, 1)
    device = DeviceReading("CPU", "a", "", 1.0, 1.0, 1.0, 1.0, 1, 1)
    text = render(figures, DaemonFigures("1", 1), [(server, None)], {"CPU": device}).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


KNOWN = labels_by_name()
EXPRESSIONS = [
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((each["name"], each["definition"]) for each in DASHBOARD["templating"]["list"] if "definition" in each),
]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_metric_and_label_is_one_that_is_made(title, expression):
    names = NAME.findall(expression)
    assert names or expression.startswith("up{"), title
    assert set(names) <= KNOWN.keys(), title
    for name, matchers in SELECTOR.findall(expression):
        labels = {each.partition("=")[0].rstrip("!~ ") for each in matchers.split(",")}
        assert labels <= KNOWN.get(name, set()) | OF_PROMETHEUS, title
    grouped = {label.strip() for labels in BY.findall(expression) for label in labels.split(",")}
    assert grouped <= OF_PROMETHEUS.union(*(KNOWN[name] for name in names)), title


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_tells_of_is_there_when_it_fires(rule):
    """A label that is aggregated away would be empty in its text."""
    texts = " ".join(rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    by = {label.strip() for labels in BY.findall(rule["expr"]) for label in labels.split(",")}
    names = NAME.findall(rule["expr"])
    there = by or OF_PROMETHEUS.union(*(KNOWN[name] for name in names))
    assert used <= there
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {"summary", "description"} == rule["annotations"].keys()


def test_every_counter_is_asked_for_as_a_rate():
    for title, expression in EXPRESSIONS:
        for name in NAME.findall(expression):
            if name.endswith(("_total", "_bucket")):
                assert re.search(rf"\b(?:rate|increase)\({name}\b", expression), title


def test_every_metric_of_keys_and_devices_is_on_the_dashboard():
    asked = {name for _, expression in EXPRESSIONS for name in NAME.findall(expression)}
    assert {name for name in KNOWN if "_key_" in name or "_device_" in name} <= asked


def test_panels_have_ids_of_their_own_and_no_place_twice():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_the_dashboard_asks_the_data_source_that_one_chooses():
    sources = [each["datasource"] for panel in PANELS for each in (panel, *panel["targets"])]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert not DASHBOARD.get("id")


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian's package prometheus)")
def test_prometheus_takes_the_rules_and_the_queries(tmp_path):
    checked = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    queries = [
        expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*")
        for title, expression in EXPRESSIONS
        if not expression.startswith("label_values")
    ]
    rules = [{"record": f"q{number}", "expr": each} for number, each in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
