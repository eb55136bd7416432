"""`rayleigh manifests`: what is shipped is what it writes, and what it writes is valid."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from test_cli import ask
from test_manifests_check import SCHEMAS, against

from engine.cluster.check import check
from engine.cluster.write import object_name
from engine.errors import ContractError, InputError
from jobs.commands.check_manifests import locked_ray
from jobs.commands.manifests import Request, manifests

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DEFAULT = Request("jobs/contracts/smoke.yaml")
NAMES = ["rayjob", "rayjob-kueue", "raycluster", "rayservice-student"]
RAY = Path(importlib.util.find_spec("ray").origin).parent  # type: ignore[union-attr]


def test_shipped_files_are_what_the_command_writes():
    written = manifests(DEFAULT, [])
    assert sorted(written) == sorted([*(f"kuberay/{name}.yaml" for name in NAMES), "launcher.yaml", "launcher-gcp.yaml"])
    again = f"run `rayleigh manifests {DEFAULT.contract} --out cluster`"
    assert {name: (CLUSTER / name).read_text() for name in written} == written, again


@pytest.mark.parametrize(
    "schemas", [False, pytest.param(True, marks=pytest.mark.skipif(not SCHEMAS.is_dir(), reason="no schemas here"))]
)
def test_shipped_files_have_no_problems(schemas: bool):
    for path in [*CLUSTER.glob("kuberay/*.yaml"), *CLUSTER.glob("launcher*.yaml")]:
        found = check(path.read_text(), path.name, against(schemas=schemas))
        assert found.problems == [] and len(found.objects) == 1


def test_command_writes_files_that_it_accepts(tmp_path: Path):
    text = ask(
        "manifests", "jobs/contracts/smoke.yaml", "--out", str(tmp_path), "--storage", "gs://mine/", "--image", "reg/r:2.60.0"
    )
    assert f"wrote {tmp_path}/kuberay/rayjob.yaml" in text
    [job] = yaml.safe_load_all((tmp_path / "kuberay/rayjob.yaml").read_text())
    assert "gs://mine/runs/order-mail-smoke" in job["spec"]["entrypoint"]
    assert "0 errors, 0 warnings" in ask("check-manifests", str(tmp_path), "--strict")


def test_contract_outside_of_the_project_travels_in_a_config_map(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    (tmp_path / "system.txt").write_text("Answer as JSON.")
    text = (
        "name: mine_1\nspecialist: {goal: count, task_units: [{name: count, kind: decision}]}\n"
        "prompts: {sources: [{path: 's3://b/a.jsonl', licence: x}], holdout: {path: 's3://b/h.jsonl', labels: rule}}\n"
        "teachers: {mode: direct, models: [{name: t, model: {type: endpoint, path: m, url: 'http://x/v1', key_env: T_KEY}, "
        "system: !include system.txt}]}\njudges: {}\n"
        "students: [{name: s, init: {prune: {source: smollm2-135m-instruct, layers: [0]}}}]\ngate: {}\n"
    )
    path.write_text(text)
    written = manifests(Request(str(path), "cluster"), [])
    config, job = yaml.safe_load_all(written["kuberay/rayjob.yaml"])
    assert (config["kind"], config["metadata"]["name"], job["metadata"]["name"]) == ("ConfigMap", "mine-1-contract", "mine-1")
    assert yaml.safe_load(config["data"]["contract.yaml"])["teachers"]["models"][0]["system"] == "Answer as JSON."
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert pod["env"][1:] == [{"name": "T_KEY", "valueFrom": {"secretKeyRef": {"name": "mine-1-keys", "key": "T_KEY"}}}]
    assert "/home/ray/contract/contract.yaml" in job["spec"]["entrypoint"]
    path.write_text(path.read_text().replace("s3://b/a.jsonl", "a.jsonl"))
    with pytest.raises(InputError, match=r"prompts\.sources\.0\.path: a\.jsonl"):
        manifests(Request(str(path), "cluster"), [])


def profile_of(tmp_path: Path, **keys) -> str:
    """Return the path of the profile `cluster` with other values of top-level keys, outside of the project."""
    raw = yaml.safe_load((CLUSTER / "profiles/cluster.yaml").read_text()) | keys
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(raw))
    return str(tmp_path / "own.yaml")


def test_service_gets_the_profile_that_the_run_gets(tmp_path: Path):
    config, service = yaml.safe_load_all(
        manifests(Request(DEFAULT.contract, profile_of(tmp_path)), [])["kuberay/rayservice-student.yaml"]
    )
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["profile"] == "/home/ray/contract/profile.yaml" and "profile.yaml" in config["data"]
    spec = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "contract", "configMap": {"name": config["metadata"]["name"]}} in spec["volumes"]
    assert {"containerPort": 8000, "name": "serve"} in spec["containers"][0]["ports"]
    [service] = yaml.safe_load_all(
        manifests(Request(DEFAULT.contract, "cluster/profiles/cluster.yaml"), [])["kuberay/rayservice-student.yaml"]
    )
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["profile"] == "/home/ray/rayleigh/cluster/profiles/cluster.yaml"


def test_pods_ask_for_the_disk_that_they_fill_and_export_what_is_free_of_it():
    [job] = yaml.safe_load_all(manifests(DEFAULT, [])["kuberay/rayjob.yaml"])
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [pod] = group["template"]["spec"]["containers"]
        assert {"name": "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE", "value": "1"} in pod["env"]
        asked = pod["resources"]["requests"].get("ephemeral-storage")
        size = group["template"]["spec"]["volumes"][0]["emptyDir"]["sizeLimit"]
        assert asked == (size if "groupName" in group else None)


@pytest.mark.parametrize("own", [False, True])
def test_changes_reach_the_run_and_the_header_whatever_the_profile(tmp_path: Path, own: bool):
    profile = profile_of(tmp_path) if own else "cluster"
    text = manifests(Request(DEFAULT.contract, profile), ["gate.exact_match=0.99"])["kuberay/rayjob.yaml"]
    assert "--set gate.exact_match=0.99`" in text.splitlines()[0]
    job = list(yaml.safe_load_all(text))[-1]
    assert "--set gate.exact_match=0.99" in job["spec"]["entrypoint"]


@pytest.mark.parametrize("keys", [{"cpus": 14.5}, {"cpus": 15, "resources": {"licence": 0.5}}])
def test_parts_of_a_resource_are_refused_for_ray_up_and_not_rounded(tmp_path: Path, keys: dict):
    nodes = [{"name": "cpu", "gpus": 1, "max": 9, "machines": {"aws": "x", "gcp": "y"}, **keys}]
    with pytest.raises(ContractError, match=r"nodes\.cpu\.(cpus: found 14\.5|resources\.licence: found 0\.5), and `ray up`"):
        manifests(Request(DEFAULT.contract, profile_of(tmp_path, nodes=nodes)), [])
    written = manifests(Request(DEFAULT.contract, profile_of(tmp_path, nodes=[nodes[0] | {"machines": {}}])), [])
    assert "launcher.yaml" not in written


def test_what_is_never_placed_is_noted_beside_the_files(tmp_path: Path):
    profile = profile_of(tmp_path, judge={"gpus": 8})
    words = ["manifests", "jobs/contracts/smoke.yaml", "--out", str(tmp_path)]
    text = ask(*words, "--profile", profile, "--set", "judges.signals={model: {type: fake}, quality: {}}")
    assert "NEVER: candidates: signals (judge): no node has 8 GPU; the most is 4, of gpu: lower judge.gpus to 4" in text
    assert "NEVER" not in ask(*words)


def test_profile_without_nodes_is_refused():
    with pytest.raises(ContractError, match="found no `nodes`"):
        manifests(Request("jobs/contracts/smoke.yaml", "gpu-node"), [])


@pytest.mark.parametrize(("contract", "name"), [("a_b", "a-b"), ("9lives", "r-9lives"), ("x" * 60, "x" * 40), ("a--", "a")])
def test_name_of_a_contract_becomes_one_of_kubernetes(contract: str, name: str):
    assert object_name(contract) == name


def test_dockerfile_has_the_locked_ray_and_installs_by_the_lock():
    text = (CLUSTER / "Dockerfile").read_text()
    assert re.search(rf"^ARG RAY_VERSION={locked_ray()}$", text, re.MULTILINE)
    uv = re.search(r"^uv==(\S+)", (CLUSTER / "constraints.txt").read_text(), re.MULTILINE)
    assert uv and f"uv=={uv[1]}" in text
    assert re.search(r"^USER 1000", text, re.MULTILINE) and ":latest" not in text
    joined = text.replace("\\\n", " ")
    installs = re.findall(r"uv pip install[^;&]*", joined)
    assert installs and all("--no-cache" in one and ("--constraint" in one or "--no-deps" in one) for one in installs)


def test_stores_that_manifests_offer_have_their_client_in_the_image():
    text = (CLUSTER / "Dockerfile").read_text()
    pins = dict(line.split("==") for line in (CLUSTER / "constraints.txt").read_text().splitlines() if "==" in line)
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gcs"]
    assert text.count("--extra gcs s3fs") == 2 and {"s3fs", *(Requirement(line).name for line in extra)} <= set(pins)
    assert all(Requirement(line).specifier.contains(pins[Requirement(line).name]) for line in extra)


def metrics_of_ray() -> str:
    """The sources of Ray that name its metrics, and its binary."""
    dashboards = "".join(path.read_text() for path in RAY.glob("dashboard/modules/metrics/dashboards/*.py"))
    return dashboards + "".join(path.read_text() for path in RAY.glob("data/_internal/execution/interfaces/op_runtime_metrics.py"))


def test_rules_and_dashboard_use_metrics_that_exist():
    rules = yaml.safe_load((CLUSTER / "prometheus/engine-rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((CLUSTER / "grafana/engine.json").read_text())
    expressions += [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    used = {name for expression in expressions for name in re.findall(r"\b(?:ray_[a-z_]+|rayleigh:[\w:]+)", expression)}
    ours = {"ray_rayleigh_rows_total", "ray_rayleigh_output_tokens_total"}  # tests/line/test_submit.py reads them of a node
    known = metrics_of_ray()
    unknown = {name for name in used - ours - recorded if name not in known and name.removeprefix("ray_data_") not in known}
    assert unknown == set()
    # a living actor is counted by the head, and again by its own process in states of other names
    counted = [one for expression in expressions for one in re.findall(r"ray_actors(?:\{[^}]*\})?", expression)]
    assert all("State=" in one or 'Source="gcs"' in one for one in counted)
    [silent] = [rule["expr"] for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == "RayleighNoRows"]
    assert "or vector(0)" in silent  # before the first row there is no series, and a comparison with none is never true
    assert {panel["title"] for panel in board["panels"] if panel["type"] == "row"} == {
        "Rows and tokens",
        "Cost",
        "Actors",
        "Memory and spill",
    }
