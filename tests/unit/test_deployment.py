"""The files in share/ for Kubernetes and Docker Compose are what those programs take, and fit to the image."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from supervisor.gateway.api.routes import route_of

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "share"
KUBERNETES = SHARE / "kubernetes"
FLAVOURS = ("cpu", "cuda", "vulkan")
GPU = {"cuda": "nvidia.com/gpu", "vulkan": "amd.com/gpu"}
NEWEST = kubernetes_validate.latest_version()
BUNDLED_IN_KUBECTL = re.compile(r"v(\d+)\.")


def documents(file):
    return list(yaml.safe_load_all(file.read_text("utf-8")))


def base():
    return [
        each
        for file in ("statefulset", "service")
        for each in documents(KUBERNETES / "base" / f"{file}.yaml")
    ]


def stateful_set():
    return base()[0]


def container():
    (found,) = stateful_set()["spec"]["template"]["spec"]["containers"]
    return found


def dockerfile():
    return (ROOT / "Dockerfile").read_text("utf-8")


def problem_of(document, version):
    """What Kubernetes' schema has against it; "" for nothing."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("document", base(), ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.29", NEWEST])
def test_kubernetes_own_schemas_know_every_key(document, version):
    assert problem_of(document, version) == ""


def test_the_schemas_refuse_what_is_wrong():
    wrong = stateful_set()
    wrong["spec"]["replica"] = 1
    assert "replica" in problem_of(wrong, NEWEST)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_overlay_names_things_that_exist(flavour):
    folder = KUBERNETES / "overlays" / flavour
    (overlay,) = documents(folder / "kustomization.yaml")
    assert [(folder / each / "kustomization.yaml").exists() for each in overlay["resources"]] == [True]
    assert overlay["images"] == [{"name": container()["image"].partition(":")[0], "newTag": flavour}]
    assert f" AS {flavour}\n" in dockerfile()
    for patch in overlay.get("patches", []):
        (changed,) = documents(folder / patch["path"])
        assert (changed["kind"], changed["metadata"]) == (
            "StatefulSet",
            {"name": stateful_set()["metadata"]["name"]},
        )
        (inside,) = changed["spec"]["template"]["spec"]["containers"]
        assert inside == {"name": container()["name"], "resources": {"limits": {GPU[flavour]: "1"}}}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_kustomize_makes_valid_objects_of_it(flavour, tmp_path):
    copied = shutil.copytree(KUBERNETES, tmp_path / "kubernetes") / "overlays" / flavour
    overlay = copied / "kustomization.yaml"
    overlay.write_text(
        overlay.read_text("utf-8").replace("# components:\n#   -", "components:\n  -"), "utf-8"
    )
    done = subprocess.run([*kustomize(), copied], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    assert made.pop(("PodMonitor", "goss-supervisor"))
    for each in made.values():
        kubernetes_validate.validate(each, NEWEST, strict=True)
    (inside,) = made["StatefulSet", "goss-supervisor"]["spec"]["template"]["spec"]["containers"]
    assert inside["image"] == f"goss-supervisor:{flavour}"
    assert {key for key in inside["resources"]["limits"] if "/" in key} == set(
        filter(None, [GPU.get(flavour)])
    )
    assert inside["startupProbe"]


def kustomize():
    """A version 4 or newer, which knows components."""
    for command, asked in (("kustomize", ("version",)), ("kubectl", ("version", "--client"))):
        if shutil.which(command):
            said = subprocess.run([command, *asked], capture_output=True, text=True, timeout=60).stdout
            found = BUNDLED_IN_KUBECTL.search(said.rpartition("Kustomize Version:")[2])
            if found and int(found[1]) >= 4:
                return [command, "build" if command == "kustomize" else "kustomize"]
    pytest.skip("neither kustomize nor a kubectl with kustomize 4 is installed")


def test_the_probes_ask_endpoints_that_need_no_key():
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        route = route_of("GET", container()[probe]["httpGet"]["path"], "")
        assert (route.handler, route.access) in {("ready", "public"), ("live", "public")}, probe


def test_a_stop_has_the_time_that_it_may_take():
    pod, words = stateful_set()["spec"]["template"]["spec"], container()["args"]
    (grace,) = (int(word[len("--set=stop.grace=") : -1]) for word in words if "stop.grace" in word)
    before = int(container()["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] >= before + 2 * grace + 15  # see stop_seconds


def test_the_pod_is_the_user_of_the_image_and_cannot_become_another():
    pod = stateful_set()["spec"]["template"]["spec"]
    user = pod["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile()
    assert user["fsGroup"] == user["runAsGroup"]
    assert user["runAsNonRoot"] is True
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_is_selected_is_what_there_is():
    labels = stateful_set()["spec"]["template"]["metadata"]["labels"]
    ports = {each["name"] for each in container()["ports"]}
    services = base()[1:]
    assert stateful_set()["spec"]["selector"] == {"matchLabels": labels}
    assert stateful_set()["spec"]["serviceName"] in {each["metadata"]["name"] for each in services}
    assert all(each["spec"]["selector"] == labels for each in services)
    assert {port["targetPort"] for each in services for port in each["spec"]["ports"]} <= ports
    (monitor,) = documents(KUBERNETES / "monitoring" / "podmonitor.yaml")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert monitor["spec"]["selector"] == {"matchLabels": labels}
    assert endpoint["port"] in ports
    assert route_of("GET", endpoint["path"], "").handler == "metrics"


def test_compose_runs_the_image_as_it_is_meant():
    (compose,) = documents(SHARE / "compose" / "compose.yaml")
    (service,) = compose["services"].values()
    mounted = dict(each.rpartition(":")[::2] for each in service["volumes"])
    assert all(f'"{path}"' in dockerfile() for path in mounted.values())
    assert set(mounted) == set(compose["volumes"])
    assert "ARG FLAVOUR" in dockerfile()
    assert set(service["build"]["args"]) == {"FLAVOUR"}
    assert "user" not in service  # the image's own, which is not root
    assert service["stop_grace_period"] == "2m"
