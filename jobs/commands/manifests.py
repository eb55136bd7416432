"""`rayleigh manifests`: files for KubeRay and `ray up`, filled in from a contract and a profile."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from engine.cluster import write, write_launcher
from engine.cluster.write import FILES, PROFILE, PROJECT, Order
from engine.contract.contract import Contract
from engine.contract.load import apply_change, load_contract
from engine.contract.profile import NodeGroup, Profile, load_profile
from engine.contract.sections import is_url, read_yaml
from engine.distributed.capacity import Wanted, of_pool, wanted
from engine.distributed.placement import Group, declared, nodes_needed, place
from engine.errors import ContractError, InputError
from jobs import places
from jobs.commands import check
from jobs.commands.check_manifests import locked_ray
from jobs.commands.check_nodes import node_paths
from jobs.commands.check_placement import never
from jobs.pipeline import pipeline

ROOT = Path(__file__).parents[2]
HEADER = "# Written by `rayleigh manifests {words}`. See cluster/README.md.\n"
CONTRACT = "contract.yaml"  # in the ConfigMap
MOST_CONFIG = 900_000  # bytes of a ConfigMap; Kubernetes takes a MiB
PLACES = {"rayjob": "kuberay/rayjob.yaml", "queued": "kuberay/rayjob-kueue.yaml", "cluster": "kuberay/raycluster.yaml"}


class Request(NamedTuple):
    """What is asked for on the command line."""

    contract: str
    profile: str = "cluster"
    storage: str = "s3://your-bucket"
    """URL below which runs and releases lie."""
    image: str | None = None
    queue: str = "rayleigh"

    def words(self, changes: Sequence[str]) -> str:
        """The arguments, as a person writes them."""
        given = {"--profile": self.profile, "--storage": self.storage, "--queue": self.queue, "--image": self.image}
        shown = [word for flag, value in given.items() if value and value != DEFAULTS.get(flag) for word in (flag, value)]
        return shlex.join([self.contract, *shown, *(word for change in changes for word in ("--set", change))])


LAUNCHERS: dict[write_launcher.Provider, str] = {"aws": "launcher.yaml", "gcp": "launcher-gcp.yaml"}
DEFAULTS = {"--storage": "s3://your-bucket", "--queue": "rayleigh"}


def manifests(request: Request, changes: list[str]) -> dict[str, str]:
    """Return path -> text of each file.

    Raises:
        ContractError: the profile declares no nodes, or joins no running cluster; or contract or profile cannot be used.
        InputError: the contract names a file that the image does not hold.
    """
    if is_url(request.contract):
        raise InputError(f"{request.contract}: found a URL, expected a file, which the manifests hold. Copy it here.")
    loaded = load_contract(request.contract, changes)
    path = places.profile_path(request.profile)
    profile = load_profile(path)
    _check_profile(profile, request.profile)
    order = _order(request, loaded.contract, profile, changes)
    head = HEADER.format(words=request.words(changes))
    texts = {
        PLACES["rayjob"]: _dump(*write.ray_job(order)),
        PLACES["queued"]: _dump(*write.queued_job(order)),
        PLACES["cluster"]: _dump(*write.ray_cluster(order)),
        "kuberay/rayservice-student.yaml": _dump(*write.ray_service(order, _serve_config(order, request))),
    }
    for provider, name in LAUNCHERS.items():
        if all(provider in machines for machines in (profile.head.machines, *(group.machines for group in profile.nodes))):
            texts[name] = _dump(write_launcher.launcher(order, provider))
    return {name: head + text for name, text in texts.items()}


def notes(request: Request, changes: list[str]) -> list[str]:
    """Return what the nodes of the profile never place: a line for each kind of actors, with the change that mends it."""
    profile = load_profile(places.profile_path(request.profile))
    lost = never(place(_at_once(load_contract(request.contract, changes).contract, profile), declared(profile)))
    return [f"NEVER: {one.job}: {one.who}: {one.note}" for one in lost]


def save(files: Mapping[str, str], folder: Path) -> list[str]:
    """Write `files` below `folder`, and return their paths.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written: {error}.") from None
    return [str(folder / name) for name in files]


def _check_profile(profile: Profile, name: str) -> None:
    if not profile.nodes:
        example = "nodes: [{name: gpu, cpus: 44, gpus: 4, memory_gib: 170, max: 6}]"
        raise ContractError(f"profile {name}: found no `nodes`, of which manifests are written. Add them, such as {example}.")
    if profile.ray.address in ("local", "none"):
        found = f"ray.address is {profile.ray.address}"
        raise ContractError(f"profile {name}: {found}, so the run would not use the cluster of its job. Write address: auto.")


def _order(request: Request, contract: Contract, profile: Profile, changes: list[str]) -> Order:
    ray = locked_ray()
    if ray is None:
        raise InputError("cluster/constraints.txt: the lock is not there, so Ray's version is not known.")
    device = "gpu" if any(group.gpus for group in profile.nodes) else "cpu"
    files: dict[str, str] = {}
    place_of_contract = _contract_place(request, contract, changes, files)
    place_of_profile = _profile_place(request, files)
    name = write.object_name(contract.name)
    command = ["rayleigh", "run", place_of_contract, f"{request.storage}/runs/{contract.name}", "--profile", place_of_profile]
    groups = declared(profile)
    given = [] if CONTRACT in files else changes  # the contract in the ConfigMap has them
    return Order(
        name=name,
        profile=profile,
        image=request.image or f"rayleigh:{ray}-{device}",
        ray=ray,
        entrypoint=shlex.join([*command, *(word for change in given for word in ("--set", change))]),
        release=f"{request.storage}/runs/registry/{contract.name}",
        keys=sorted({model.key_env for _, model, *_ in check.chat_models(contract) if model.type == "endpoint" and model.key_env}),
        files=files,
        replicas=nodes_needed(_at_once(contract, profile), groups),
        queue=request.queue,
        service=_group_of_engine(contract, profile, groups),
    )  # fmt: skip


def _contract_place(request: Request, contract: Contract, changes: list[str], files: dict[str, str]) -> str:
    """Return the path of the contract in a pod: in the image, or in the ConfigMap, whose `files` it is added to."""
    path = Path(request.contract).resolve()
    if path.is_relative_to(ROOT):
        return f"{PROJECT}/{path.relative_to(ROOT)}"
    relative = [f"{key}: {found}" for key, found in node_paths(contract) if "://" not in found]
    if relative:
        lines = "\n".join(f"  {line}" for line in relative)
        advice = "Name them by URL, or keep the contract in the project, which the image holds."
        raise InputError(f"{request.contract}: these files are on this machine, and no pod has them:\n{lines}\n{advice}")
    raw = read_yaml(path)  # `!include` is replaced, so one file holds it
    for change in changes:
        apply_change(raw, change)
    files[CONTRACT] = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    if len(files[CONTRACT].encode()) > MOST_CONFIG:
        raise InputError(f"{request.contract}: with its includes it is larger than a ConfigMap may be. Build it into the image.")
    return f"{FILES}/{CONTRACT}"


def _profile_place(request: Request, files: dict[str, str]) -> str:
    path = places.profile_path(request.profile).resolve()
    if path.is_relative_to(ROOT):
        return request.profile if not request.profile.endswith((".yaml", ".yml")) else f"{PROJECT}/{path.relative_to(ROOT)}"
    files[PROFILE] = path.read_text(encoding="utf-8")
    return f"{FILES}/{PROFILE}"


def _at_once(contract: Contract, profile: Profile) -> list[Wanted]:
    """Return what the jobs of the whole run hold, with all tasks of the pool `cpu`."""
    wants = wanted(contract, profile, [job.name for job in pipeline(contract)])
    return [want._replace(actors=profile.cpu.actors) if want.section == "cpu" else want for want in wants]


def _group_of_engine(contract: Contract, profile: Profile, groups: list[Group]) -> NodeGroup:
    """Return the group of nodes that fits an engine of the first student: the one that has the least beyond it."""
    student = contract.students[0].name
    want = of_pool("service", f"student {student}", profile.evaluator_of(student), "evaluator", workers=1)
    fitting = [at for at, group in enumerate(groups) if place([want], [group])[0].state != "never"]
    if not fitting:
        raise ContractError(f"profile {profile.name}: no group of `nodes` fits an engine of the pool evaluator.")
    best = min(fitting, key=lambda at: (profile.nodes[at].gpus, profile.nodes[at].cpus))
    return profile.nodes[best]


def _serve_config(order: Order, request: Request) -> str:
    arguments = {"release": order.release, "profile": _profile_place(request, {}), "replicas": 1}
    build = "jobs.commands.serve_application:build"
    application = {"name": "student", "import_path": build, "route_prefix": "/", "args": arguments}
    return yaml.safe_dump({"applications": [application]}, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _text)


def _dump(*documents: Mapping[str, object]) -> str:
    return "---\n".join(_one(document) for document in documents)


def _one(document: Mapping[str, object]) -> str:
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=140)


def lines(paths: list[str], notes: list[str]) -> Iterator[str]:
    """Yield what is printed: the files, the `notes` on them, and what to do next."""
    yield from (f"wrote {path}" for path in paths)
    yield from notes
    yield "Next: put the URL of your storage and the name of your image in, then rayleigh check-manifests FILES."
