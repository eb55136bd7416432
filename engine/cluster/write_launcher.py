"""Files for `ray up`, filled in from a profile: AWS, and GCP as a second example."""

from typing import Literal

from engine.cluster.write import Order
from engine.contract.profile import NodeGroup
from engine.errors import ContractError
from engine.records.base import Json

Tree = Json
Provider = Literal["aws", "gcp"]
DISK_GIB = 300  # of a node: image, weights, spilled objects
WHERE: dict[Provider, Tree] = {
    "aws": {"type": "aws", "region": "us-west-2", "cache_stopped_nodes": False},
    "gcp": {"type": "gcp", "region": "us-central1", "availability_zone": "us-central1-a", "project_id": "your-project"},
}
IMAGES_OF_GCP = "projects/deeplearning-platform-release/global/images/family"
FAMILIES = {False: "common-cpu-ubuntu-2204", True: "common-cu128-ubuntu-2204-nvidia-570"}  # with Docker, and the driver for GPUs


def launcher(order: Order, provider: Provider) -> Tree:
    """Return the file for `ray up` on `provider`.

    Raises:
        ContractError: the profile does not name the machine of a group, or a group has a part of a CPU or of a resource.
    """
    head = order.profile.head.machines.get(provider)
    types: Tree = {"head": {"resources": {"CPU": 0}, "node_config": _machine(provider, head or _unnamed(provider, "head"), None)}}
    for group in order.profile.nodes:
        types[group.name] = {
            "min_workers": group.min,
            "max_workers": group.max,
            "resources": _resources(group),
            "labels": {"ray.io/market-type": "spot" if group.spot else "on-demand", **group.labels},
            "node_config": _machine(provider, group.machines.get(provider) or _unnamed(provider, group.name), group),
        }
    return {
        "cluster_name": order.name,
        "max_workers": sum(group.max for group in order.profile.nodes),
        "idle_timeout_minutes": 10,
        "provider": dict(WHERE[provider]),
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": order.image,
            "container_name": "ray",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536"],  # Ray adds --shm-size, by the memory of the node
        },
        "available_node_types": types,
        "head_node_type": "head",
        "setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            "ray start --head --port=6379 --autoscaling-config=~/ray_bootstrap_config.yaml --metrics-export-port=8080",
        ],
        "worker_start_ray_commands": ["ray stop", "ray start --address=$RAY_HEAD_IP:6379 --metrics-export-port=8080"],
    }


def _resources(group: NodeGroup) -> Tree:
    of_type = {f"accelerator_type:{group.accelerator}": 1} if group.accelerator else {}
    gpus = {"GPU": group.gpus} if group.gpus else {}
    amounts = {"CPU": group.cpus, **group.resources}
    for kind, amount in amounts.items():
        if amount != int(amount):
            key = "cpus" if kind == "CPU" else f"resources.{kind}"
            found = f"nodes.{group.name}.{key}: found {amount:g}, and `ray up` takes whole numbers only"
            raise ContractError(
                f"profile: {found}. Write {int(amount) or 1}, or take `machines` out: no file for it is written then."
            )
    return {**{kind: int(amount) for kind, amount in amounts.items()}, **gpus, **of_type}


def _machine(provider: Provider, kind: str, group: NodeGroup | None) -> Tree:
    """Return the provider's configuration of a machine; no group: the head's."""
    spot, gpus = bool(group and group.spot), bool(group and group.gpus)
    if provider == "aws":
        disk = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": DISK_GIB, "VolumeType": "gp3"}}]
        return {
            "InstanceType": kind,
            "BlockDeviceMappings": disk,
            **({"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}),
        }
    start = {"diskSizeGb": DISK_GIB, "sourceImage": f"{IMAGES_OF_GCP}/{FAMILIES[gpus]}"}
    scheduling: Tree = {"onHostMaintenance": "TERMINATE", **({"provisioningModel": "SPOT"} if spot else {})}
    disk = [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": start}]
    return {"machineType": kind, "disks": disk, "scheduling": scheduling}


def _unnamed(provider: Provider, group: str) -> str:
    place = "head.machines" if group == "head" else f"nodes.{group}.machines"
    raise ContractError(f"profile: {place} names no machine for {provider}. Add {provider}: MACHINE, or write no file for it.")
