"""Manifests for KubeRay: a run as a job, the cluster alone, and a student as a service, filled in from a profile."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.contract.profile import NodeGroup, Profile
from engine.records.base import Json

Tree = Json
PROJECT = "/home/ray/rayleigh"
"""Folder of the project in the image; see cluster/Dockerfile."""
FILES = "/home/ray/contract"
"""Where the ConfigMap with the contract is mounted."""
PROFILE = "profile.yaml"
"""Name of a profile that is not in the image, in the ConfigMap."""
SCRATCH_GIB = 200  # of a node's disk, for spilled objects and logs
DISK_USAGE = "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE"  # else Ray exports a disk of one byte, all of it free, in a pod
LONGEST_NAME = 40  # the operator's limit is 47; suffixes follow
HOUR = 3600


class Order(NamedTuple):
    """What is written."""

    name: str
    """Name of the objects; see `object_name`."""
    profile: Profile
    image: str
    ray: str
    """Version of Ray in the image."""
    entrypoint: str
    """Command line of the run."""
    release: str
    """URL of the release that the service serves."""
    keys: Sequence[str] = ()
    """Environment variables with keys of endpoints; their values come from the secret `NAME-keys`."""
    files: Mapping[str, str] = {}
    """Name -> text of the files of the ConfigMap: a contract or profile that is not in the image."""
    replicas: Mapping[str, int] = {}
    """Group -> nodes that the run needs at the same time, for a cluster that does not grow."""
    queue: str = "rayleigh"
    """Kueue's local queue."""
    service: NodeGroup | None = None
    """Group of nodes that fits an engine of the student."""


def object_name(contract: str) -> str:
    """Return the name of a contract as a name of Kubernetes' objects (DNS-1035)."""
    name = re.sub(r"[^a-z0-9-]+", "-", contract.lower()).strip("-")[:LONGEST_NAME].rstrip("-")
    return name if name[:1].isalpha() else f"r-{name}".rstrip("-")


def ray_job(order: Order) -> list[Tree]:
    """Return a RayJob that grows with its work, after the ConfigMap that it may need."""
    spec = {**_job(order), "rayClusterSpec": cluster(order)}
    return [*_config(order), _object("RayJob", order.name, spec)]


def queued_job(order: Order) -> list[Tree]:
    """Return a RayJob for Kueue: of a fixed size, and suspended until the queue admits it."""
    spec = {"suspend": True, **_job(order), "rayClusterSpec": cluster(order, grows=False)}
    queued = _object("RayJob", order.name, spec)
    queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = order.queue
    return [*_config(order), queued]


def ray_cluster(order: Order) -> list[Tree]:
    """Return a RayCluster that waits for jobs of `rayleigh submit`."""
    return [*_config(order), _object("RayCluster", order.name, cluster(order))]


def ray_service(order: Order, serve_config: str) -> list[Tree]:
    """Return a RayService, after the ConfigMap with a profile that is not in the image; `serve_config` is Serve's configuration."""
    assert order.service is not None, "the caller has found a group"
    alone = order.profile.model_copy(update={"nodes": (order.service.model_copy(update={"min": max(1, order.service.min)}),)})
    order = order._replace(profile=alone, files=order.files if PROFILE in order.files else {})
    described = cluster(order)
    ports = described["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    ports += _ports({"client": 10001, "serve": 8000})  # where ports are named, the operator adds none of its own
    spec = {"serveConfigV2": serve_config, "upgradeStrategy": {"type": "NewCluster"}, "rayClusterConfig": described}
    return [*_config(order), _object("RayService", f"{order.name}-s", spec)]


def cluster(order: Order, *, grows: bool = True) -> Tree:
    """Return the description of the cluster; one that does not grow has `order.replicas` nodes of each group."""
    head = order.profile.head
    scaled: Tree = {"enableInTreeAutoscaling": grows}
    if grows:
        amounts = {"cpu": "500m", "memory": "1Gi"}
        scaled["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": 300, "resources": _both(amounts)}
    groups = order.profile.nodes if grows else [group for group in order.profile.nodes if order.replicas.get(group.name)]
    return {
        "rayVersion": order.ray,
        **scaled,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _pod(order, "ray-head", {"cpu": f"{head.cpus:g}", "memory": f"{head.memory_gib:g}Gi"}, grows=grows),
        },
        "workerGroupSpecs": [_workers(order, group, grows=grows) for group in groups],
    }


def _job(order: Order) -> Tree:
    return {
        "entrypoint": order.entrypoint,
        "submissionMode": "K8sJobMode",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "preRunningDeadlineSeconds": HOUR,
        "activeDeadlineSeconds": 7 * 24 * HOUR,
    }


def _workers(order: Order, group: NodeGroup, *, grows: bool) -> Tree:
    fixed = order.replicas.get(group.name, 0)
    least, most = (group.min, group.max) if grows else (fixed, fixed)
    custom = {kind: f"{amount:g}" for kind, amount in group.resources.items()}
    if group.accelerator:
        custom[f"accelerator_type:{group.accelerator}"] = "1"  # the autoscaler does not know the type before a node has started
    gpus = {"GPU": str(group.gpus)} if group.gpus else {}
    labels = {"ray.io/market-type": "spot" if group.spot else "on-demand", **group.labels}
    amounts = {"cpu": f"{group.cpus:g}", "memory": f"{group.memory_gib:g}Gi"}
    if group.gpus:
        amounts["nvidia.com/gpu"] = str(group.gpus)
    whole = {"CPU": f"{group.cpus:g}", **gpus, **custom} if custom else {}
    return {
        "groupName": group.name,
        "minReplicas": least,
        "replicas": least,
        "maxReplicas": most,
        "rayStartParams": {},
        **({"resources": whole} if whole else {}),
        "labels": labels,
        "template": _pod(order, "ray-worker", amounts, grows=grows, spot=group.spot),
    }


def _pod(order: Order, name: str, amounts: Mapping[str, str], *, grows: bool, spot: bool = False) -> Tree:
    container: Tree = {"name": name, "image": order.image, "imagePullPolicy": "IfNotPresent", "resources": _both(amounts)}
    keys = [{"name": key, "valueFrom": {"secretKeyRef": {"name": f"{order.name}-keys", "key": key}}} for key in order.keys]
    container["env"] = [{"name": DISK_USAGE, "value": "1"}, *keys]
    container["envFrom"] = [{"secretRef": {"name": f"{order.name}-storage", "optional": True}}]
    if name == "ray-head":
        container["ports"] = _ports({"gcs-server": 6379, "dashboard": 8265, "metrics": 8080})
    else:
        container["ports"] = _ports({"metrics": 8080})
        container["resources"]["requests"]["ephemeral-storage"] = f"{SCRATCH_GIB}Gi"  # else any node's disk would do
    mounts: list[Tree] = [{"name": "scratch", "mountPath": "/tmp/ray"}]
    volumes: list[Tree] = [{"name": "scratch", "emptyDir": {"sizeLimit": f"{SCRATCH_GIB}Gi"}}]
    if order.files:
        mounts.append({"name": "contract", "mountPath": FILES, "readOnly": True})
        volumes.append({"name": "contract", "configMap": {"name": f"{order.name}-contract"}})
    container["volumeMounts"] = mounts
    devices = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}
    return {
        "spec": {
            **({"restartPolicy": "Never"} if grows else {}),
            "terminationGracePeriodSeconds": 120 if spot else 60,
            **(devices if "nvidia.com/gpu" in amounts else {}),
            "containers": [container],
            "volumes": volumes,
        }
    }


def _ports(ports: Mapping[str, int]) -> list[Tree]:
    return [{"containerPort": port, "name": name} for name, port in ports.items()]


def _both(amounts: Mapping[str, str]) -> Tree:
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _config(order: Order) -> list[Tree]:
    if not order.files:
        return []
    metadata = {"name": f"{order.name}-contract", "labels": _labels()}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(order.files)}]


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "rayleigh"}


def _object(kind: str, name: str, spec: Tree) -> Tree:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": name, "labels": _labels()}, "spec": spec}
