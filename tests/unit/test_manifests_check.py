"""`rayleigh check-manifests`: mistakes that users of KubeRay have reported are all caught, and what is right is left alone."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from test_cli import ask
from typer.testing import CliRunner

from engine.cluster.check import Against, check
from engine.cluster.schemas import read_schemas
from jobs.cli import app
from jobs.commands.check_manifests import launcher_schema, locked_ray, parse

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
RAY = locked_ray()


def pod(*, gpus: int = 0, **spec) -> dict:
    amounts = {"cpu": "4", "memory": "16Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    container = {
        "name": "ray",
        "image": f"registry.example/rayleigh:{RAY}-gpu",
        "resources": {"requests": amounts, "limits": dict(amounts)},
    }
    return {"spec": {"containers": [container], **spec}}


def cluster() -> dict:
    return {
        "rayVersion": RAY,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 120},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pod(restartPolicy="Never")},
        "workerGroupSpecs": [
            {
                "groupName": "gpu",
                "minReplicas": 0,
                "replicas": 1,
                "maxReplicas": 4,
                "idleTimeoutSeconds": 60,
                "rayStartParams": {},
                "template": pod(gpus=8, restartPolicy="Never"),
            }
        ],
    }


def job(**spec) -> dict:
    base = {
        "entrypoint": "rayleigh run jobs/contracts/smoke.yaml s3://bucket/runs/mine --profile cluster",
        "submissionMode": "K8sJobMode",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "preRunningDeadlineSeconds": 1800,
        "activeDeadlineSeconds": 86400,
        "runtimeEnvYAML": "env_vars:\n  A: b\n",
        "rayClusterSpec": cluster(),
    }
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "mine"}, "spec": base | spec}


def service(**spec) -> dict:
    serve = "applications:\n- name: student\n  import_path: package.module:app\n  route_prefix: /\n"
    base = {"serveConfigV2": serve, "rayClusterConfig": cluster()}
    return {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "student"}, "spec": base | spec}


def queued(document: dict) -> dict:
    document["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    return document


def put(document: dict, path: str, value: object) -> dict:
    """Return a copy of `document` with `value` at `path`; None deletes the key."""
    document = copy.deepcopy(document)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    node = document
    for part in parents:
        node = node[part] if isinstance(node, list) else node.setdefault(part, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return document


CLUSTER, HEAD, GPU = "spec/rayClusterSpec", "spec/rayClusterSpec/headGroupSpec", "spec/rayClusterSpec/workerGroupSpecs/0"
FT = "spec/rayClusterConfig/gcsFaultToleranceOptions"
SERVING = "spec/rayClusterConfig/headGroupSpec"
HEAD_CONTAINER = f"{HEAD}/template/spec/containers/0"
CONTAINER = f"{GPU}/template/spec/containers/0"


def static(**spec) -> dict:
    """A job on a cluster without an autoscaler."""
    document = put(put(job(**spec), f"{CLUSTER}/enableInTreeAutoscaling", False), f"{CLUSTER}/autoscalerOptions", None)
    return put(document, f"{GPU}/idleTimeoutSeconds", None)


def rules(*entries: tuple[str, int]) -> dict:
    condition = {"jobStatus": "SUCCEEDED"}
    return {"deletionRules": [{"policy": policy, "condition": condition | {"ttlSeconds": seconds}} for policy, seconds in entries]}


def ended(**spec) -> dict:
    """A job whose end deletion rules say."""
    return put(put(static(**spec), "spec/shutdownAfterJobFinishes", None), "spec/ttlSecondsAfterFinished", None)


def env(name: str) -> list[dict]:
    return [{"name": name, "value": "1"}]


# name -> manifest, path of the field that is wrong, words of the mend
MISTAKES = {
    "unknown field": (put(job(), "spec/entryPoint", "x"), "spec.entryPoint", "Did you mean entrypoint?"),
    "unknown field of a group": (put(job(), f"{GPU}/maxReplica", 3), "maxReplica", "Did you mean maxReplicas?"),
    "integer for num-cpus": (put(job(), f"{HEAD}/rayStartParams/num-cpus", 0), "num-cpus", 'Write it in quotes: "0".'),
    "older API": (put(job(), "apiVersion", "ray.io/v1alpha1"), "apiVersion", "Write apiVersion: ray.io/v1."),
    "wrong submission mode": (job(submissionMode="K8SJobMode"), "spec.submissionMode", "Write one of K8sJobMode"),
    "suspend without shutdown, 3994": (ended(suspend=True), "spec.suspend", "Set shutdownAfterJobFinishes: true."),
    "time to live without shutdown": (job(shutdownAfterJobFinishes=False), "ttlSecondsAfterFinished", "JobFinishes: true"),
    "rules of deletion beside shutdown": (static(deletionStrategy=rules(("DeleteSelf", 9))), "deletionRules", "Keep one"),
    "cluster outlives the object": (
        ended(deletionStrategy=rules(("DeleteCluster", 90), ("DeleteSelf", 9))),
        "ttlSeconds",
        "DeleteWorkers <= DeleteCluster <= DeleteSelf",
    ),
    "workers deleted under the autoscaler": (
        put(ended(deletionStrategy=rules(("DeleteWorkers", 9))), f"{CLUSTER}/enableInTreeAutoscaling", True),
        "policy",
        "Write DeleteCluster",
    ),
    "retries of an interactive job, 3525": (job(submissionMode="InteractiveMode"), "spec.backoffLimit", "or use K8sJobMode"),
    "retries on a selected cluster": (
        put(job(clusterSelector={"ray.io/cluster": "x"}), CLUSTER, None),
        "spec.backoffLimit",
        "or write rayClusterSpec",
    ),
    "no cluster": (put(job(), CLUSTER, None), "spec.rayClusterSpec", "Write rayClusterSpec, or clusterSelector"),
    "a template of a submitter with a sidecar": (
        job(submissionMode="SidecarMode", submitterPodTemplate=pod()),
        "spec.submitterPodTemplate",
        "or use K8sJobMode",
    ),
    "restart policy under version 2": (
        put(job(), f"{GPU}/template/spec/restartPolicy", "Always"),
        "restartPolicy",
        "Write Never, or remove it.",
    ),
    "idle time without version 2": (put(job(), f"{CLUSTER}/autoscalerOptions/version", "v1"), "idleTimeoutSeconds", "version: v2"),
    "variable of version 2 without an autoscaler": (
        put(static(), f"{HEAD_CONTAINER}/env", env("RAY_enable_autoscaler_v2")),
        "env[0]",
        "Set enableInTreeAutoscaling: true, or remove the variable.",
    ),
    "name of a job too long": (put(job(), "metadata/name", "a" * 48), "metadata.name", "Shorten it to 47"),
    "name with capitals": (put(job(), "metadata/name", "Mine_1"), "metadata.name", "Use lower case letters"),
    "resources in two places": (
        put(put(job(), f"{GPU}/resources", {"CPU": "4"}), f"{GPU}/rayStartParams", {"num-cpus": "4"}),
        "resources",
        "remove num-cpus from rayStartParams",
    ),
    "labels in rayStartParams": (put(job(), f"{GPU}/rayStartParams", {"labels": "a=b"}), "rayStartParams.labels", "`labels`"),
    "Redis without fault tolerance": (
        put(job(), f"{HEAD_CONTAINER}/env", env("RAY_REDIS_ADDRESS")),
        "env[0]",
        "gcsFaultToleranceOptions.redisAddress",
    ),
    "fault tolerance twice": (
        put(put(service(), "metadata/annotations", {"ray.io/ft-enabled": "true"}), FT, {"redisAddress": "r"}),
        "metadata.annotations.ray.io/ft-enabled",
        "Remove the annotation",
    ),
    "password of Redis in rayStartParams": (
        put(
            put(service(), FT, {"redisAddress": "r:6379"}),
            "spec/rayClusterConfig/headGroupSpec/rayStartParams/redis-password",
            "x",
        ),
        "redis-password",
        "gcsFaultToleranceOptions.redisPassword",
    ),
    "image of another version": (put(job(), f"{CONTAINER}/image", "rayproject/ray:2.40.0"), "image", 'rayVersion: "2.40.0"'),
    "image without a tag": (put(job(), f"{CONTAINER}/image", "rayproject/ray"), "image", "Write a tag with Ray's version."),
    "another Ray than the lock": (
        put(put(put(job(), f"{CLUSTER}/rayVersion", "2.40.0"), f"{CONTAINER}/image", "x:a"), f"{HEAD_CONTAINER}/image", "x:a"),
        "rayVersion",
        f'Write "{RAY}"',
    ),
    "GPU requested and not limited": (
        put(put(job(), f"{CONTAINER}/resources/limits", {"cpu": "4"}), f"{CONTAINER}/resources/requests", {"nvidia.com/gpu": "8"}),
        "nvidia.com/gpu",
        "Write the limit, and the same request or none.",
    ),
    "half a GPU": (
        put(job(), f"{CONTAINER}/resources", {"limits": {"nvidia.com/gpu": "500m"}}),
        "nvidia.com/gpu",
        "Write a whole number",
    ),
    "memory requested below its limit, 201": (
        put(job(), f"{CONTAINER}/resources/requests/memory", "2Gi"),
        "requests.memory",
        "Let both be 16Gi",
    ),
    "object store larger than the pod": (
        put(job(), f"{GPU}/rayStartParams", {"object-store-memory": "99999999999"}),
        "object-store-memory",
        "a third of the memory",
    ),
    "fewest above most": (put(job(), f"{GPU}/minReplicas", 9), "minReplicas", "raise maxReplicas"),
    "replicas out of range": (put(job(), f"{GPU}/replicas", 9), "replicas", "minReplicas <= replicas <= maxReplicas"),
    "runtime environment is no YAML": (job(runtimeEnvYAML="env_vars: {A: b"), "spec.runtimeEnvYAML", "Mend its indentation"),
    "runtime environment with pip": (job(runtimeEnvYAML="pip: [torch]"), "spec.runtimeEnvYAML", "Build them into the image."),
    "open quote in the entrypoint": (job(entrypoint="rayleigh run 'a.yaml b"), "spec.entrypoint", "Close the quote."),
    "unknown option in the entrypoint": (job(entrypoint="rayleigh run a b --profil x"), "spec.entrypoint", "See rayleigh --help."),
    "Kueue and the autoscaler": (queued(job()), "enableInTreeAutoscaling", "Set it to false"),
    "Kueue and a service, 4686": (queued(service()), "queue-name", "Remove the label"),
    "configuration of Serve is a mapping": (service(serveConfigV2={"applications": []}), "spec.serveConfigV2", "serveConfigV2: |"),
    "configuration of Serve is no YAML": (service(serveConfigV2="applications: [a"), "spec.serveConfigV2", "Mend its indentation"),
    "deprecated threshold": (service(serviceUnhealthySecondThreshold=9), "serviceUnhealthySecondThreshold", "Remove it."),
    "head with work": (put(job(), f"{HEAD}/rayStartParams", {}), "rayStartParams.num-cpus", 'Write num-cpus: "0".'),
    "two groups of one name": (
        put(job(), f"{CLUSTER}/workerGroupSpecs", cluster()["workerGroupSpecs"] * 2),
        "groupName",
        "a name of its own",
    ),
    "a pod without a container": (put(job(), f"{GPU}/template/spec/containers", []), "containers", "Add one with `name`"),
    "deadline that is none": (job(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "Write 1 or more"),
    "a service that names ports without its own": (
        put(service(), f"{SERVING}/template/spec/containers/0/ports", [{"containerPort": 8265, "name": "dashboard"}]),
        "containers[0].ports",
        "{containerPort: 8000, name: serve}",
    ),
    "RocksDB behind a gate": (
        put(service(), FT, {"backend": "rocksdb"}),
        "gcsFaultToleranceOptions.backend",
        "have the operator's gate opened first",
    ),
}  # fmt: skip
SUBMITTER = {"spec": {"restartPolicy": "Never", "containers": [{"name": "s", "image": "x:1", "command": ["/submitter"]}]}}
WHOLE = {
    "command of the submitter": put(job(submitterPodTemplate=SUBMITTER), "spec/entrypoint", None),
    "no most nodes": put(job(), f"{GPU}/maxReplicas", None),
    "job": job(),
    "static job": static(),
    "service": service(),
    "queued": queued(static(suspend=True)),
    "ended": ended(deletionStrategy=rules(("DeleteCluster", 9), ("DeleteSelf", 99))),
}


def against(*, schemas: bool) -> Against:
    return Against(ray=RAY, schemas=read_schemas(SCHEMAS) if schemas else None, launcher=launcher_schema(), parse=parse)


@pytest.fixture(scope="module", params=["known fields", "schemas"])
def basis(request) -> Against:
    if request.param == "schemas" and not SCHEMAS.is_dir():
        pytest.skip("the operator's schemas are not here")
    return against(schemas=request.param == "schemas")


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_caught_at_its_place_and_can_be_mended(name: str, basis: Against):
    document, path, mend = MISTAKES[name]
    problems = check(yaml.safe_dump(document), "file.yaml", basis).problems
    assert any(path in problem.place and mend in problem.mend for problem in problems), problems
    assert all(
        problem.place.startswith(f"file.yaml: {document['kind']} ") and problem.found and problem.mend for problem in problems
    )


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_right_is_left_alone(name: str, basis: Against):
    found = check(yaml.safe_dump(WHOLE[name]), "file.yaml", basis)
    assert found.problems == [] and len(found.objects) == 1


def test_schemas_without_a_kind_are_refused_with_the_way_to_get_them(tmp_path: Path):
    error = ask("check-manifests", "x.yaml", "--schemas", str(tmp_path), code=1)
    assert "found no schema of ray.io/v1 for RayCluster, RayJob, RayService" in error and "helm pull" in error


def test_a_custom_resource_definition_is_a_schema(tmp_path: Path):
    fields = {"spec": {"type": "object", "properties": {"suspend": {"type": "boolean"}}}, "apiVersion": {"type": "string"}}
    for kind in ("RayCluster", "RayJob", "RayService"):
        names = {"kind": kind}
        versions = [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": fields | {"kind": {}, "metadata": {}}}}}
        ]
        crd = {"kind": "CustomResourceDefinition", "spec": {"names": names, "versions": versions}}
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(crd))
    found = check(yaml.safe_dump(job()), "f", Against(schemas=read_schemas(tmp_path))).problems
    assert any(problem.place == "f: RayJob mine: spec.entrypoint" and problem.mend == "Allowed: suspend." for problem in found)


def test_other_objects_are_skipped_and_every_document_is_read():
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
    found = check("---\n".join([other, yaml.safe_dump(job()), yaml.safe_dump(put(job(), "spec/entryPoint", 1))]), "f", Against())
    assert (found.objects, found.skipped, len(found.problems)) == (["RayJob mine", "RayJob mine"], ["Service x"], 1)


def test_text_that_is_no_yaml_names_the_line():
    [problem] = check("a: [\nb: c", "f.yaml", Against()).problems
    assert problem.place == "f.yaml:line 2" and problem.refused


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"max_worker": 3}, "(file)"),
        ({"head_node_type": "x"}, "head_node_type"),
        ({"docker": {"image": "x:2.40.0", "container_name": "ray"}}, "docker.image"),
    ],
)
def test_launcher_is_held_against_the_schema_of_ray(change: dict, place: str):
    types = {"head": {"node_config": {}, "resources": {"CPU": 0}}, "w": {"node_config": {}, "resources": {}, "max_workers": 2}}
    launcher = {"cluster_name": "x", "provider": {"type": "aws", "region": "r"}, "max_workers": 2, "available_node_types": types}
    launcher |= {"head_node_type": "head", "auth": {"ssh_user": "ubuntu"}, "docker": {"image": f"x:{RAY}", "container_name": "ray"}}
    assert check(yaml.safe_dump(launcher), "f", against(schemas=False)).problems == []
    [problem] = check(yaml.safe_dump(launcher | change), "f", against(schemas=False)).problems
    assert problem.place == f"f: {place}"


def test_command_exits_with_one_on_errors_and_on_warnings_if_strict(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job(submissionMode="x")))
    result = CliRunner().invoke(app, ["check-manifests", str(tmp_path), "--json"])
    assert result.exit_code == 1
    assert [(one["level"], one["place"]) for one in json.loads(result.stdout)["problems"]] == [
        ("error", f"{path}: RayJob mine: spec.submissionMode")
    ]
    path.write_text(yaml.safe_dump(put(job(), f"{HEAD}/rayStartParams", {})))
    assert "0 errors, 1 warnings" in ask("check-manifests", str(path))
    assert CliRunner().invoke(app, ["check-manifests", str(path), "--strict"]).exit_code == 1
    path.write_text("kind: ConfigMap\napiVersion: v1\n")
    assert "found nothing to check" in ask("check-manifests", str(path), code=1)
