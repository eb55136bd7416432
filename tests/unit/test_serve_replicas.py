"""What replicas on Ray Serve are told: the same in every working directory. And what a server does on a cluster of many."""

import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import engine.serving
from engine.contract.profile import Pool
from engine.errors import InputError
from engine.serving.listen import Address
from jobs.commands.serve import Options, for_replicas
from jobs.commands.serve_cascade import Order


def test_paths_are_absolute_and_only_replicas_on_cpus_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    options = Options(place="registry/orders", cascade=Order("run/cascade.json"))
    found = pickle.loads(pickle.dumps(for_replicas(options, Pool(), said.append)))
    assert Path(found.place) == tmp_path / "registry/orders" and Path(found.cascade.file) == tmp_path / "run/cascade.json"
    assert found.follow and not said
    assert not for_replicas(options, Pool(gpus=1), said.append).follow and "start the server anew" in said[0]
    assert for_replicas(Options(place="s3://bucket/orders"), Pool(), said.append).place == "s3://bucket/orders"


class FakeServe:
    """Ray Serve of a cluster: `applications` of others, name -> route; None: it does not run."""

    def __init__(self, applications: dict[str, str] | None) -> None:
        self.applications, self.did = applications, list[str]()
        self.host, self.port = ("0.0.0.0", 9000) if applications is not None else ("", 0)

    def client(self, raise_if_no_controller_running: bool = True) -> Any:
        if self.applications is None:
            return None
        details = {name: {"route_prefix": route} for name, route in self.applications.items()}
        config = SimpleNamespace(host=self.host, port=self.port)
        return SimpleNamespace(http_config=config, get_serve_details=lambda: {"applications": details})

    def start(self, http_options: Any) -> None:
        if self.applications is None:
            self.applications, self.host, self.port = {}, http_options.host, http_options.port

    def run(self, application: Any, name: str, route_prefix: str) -> None:
        assert self.applications is not None
        self.applications[name] = route_prefix

    def status(self) -> Any:
        return SimpleNamespace(applications=dict(self.applications or {}))

    def delete(self, name: str) -> None:
        self.did.append(f"delete {name}")

    def shutdown(self) -> None:
        self.did.append("shutdown")


def served(monkeypatch: pytest.MonkeyPatch, fake: FakeServe, *, meanwhile: str | None = None) -> list[str]:
    """Serve until the stop, at which another application came if `meanwhile`; return what was said."""
    said: list[str] = []

    def wait() -> None:
        if meanwhile and fake.applications is not None:
            fake.applications[meanwhile] = "/other"

    made: dict[str, Any] = {name: ModuleType(name) for name in ("ray", "ray.serve", "ray.serve.config", "ray.serve.context")}
    made["ray"].serve = fake  # the package's own extra need not be installed
    made["ray.serve.config"].HTTPOptions = SimpleNamespace
    made["ray.serve.context"]._get_global_client = fake.client
    made["engine.distributed.ray_options"] = made["ray"]
    monkeypatch.setattr(engine.serving, "flow", None, raising=False)  # so that nothing of it is left afterwards
    for name, module in {**made, "engine.serving.flow": made["ray"]}.items():
        monkeypatch.setitem(sys.modules, name, module)
    del sys.modules["engine.serving.flow"]
    flow = importlib.import_module("engine.serving.flow")
    monkeypatch.setattr(flow, "application", lambda *given: None)
    monkeypatch.setattr(flow, "_wait", wait)
    plan: Any = None
    flow.serve(lambda: plan, plan, flow.Cluster("127.0.0.1", 8000, 1), said.append)
    return said


def test_a_server_on_a_cluster_of_its_own_ends_ray_serve_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServe(None)
    assert served(monkeypatch, fake) == ["listening on http://127.0.0.1:8000", "stopped"] and fake.did == ["shutdown"]


def test_a_server_beside_applications_of_others_removes_itself_alone_and_says_where_it_listens(monkeypatch: Any) -> None:
    fake = FakeServe({"theirs": "/theirs"})
    said = served(monkeypatch, fake)
    assert "listening on http://0.0.0.0:9000" in said and any("whatever --host and --port say" in each for each in said)
    assert fake.did == ["delete rayleigh"]
    later = FakeServe(None)
    served(monkeypatch, later, meanwhile="theirs")  # it came to the Ray Serve that was started here
    assert later.did == ["delete rayleigh"]


@pytest.mark.parametrize(("name", "route"), [("rayleigh", "/elsewhere"), ("theirs", "/")])
def test_a_name_or_route_that_another_application_has_is_refused(monkeypatch: Any, name: str, route: str) -> None:
    fake = FakeServe({name: route})
    with pytest.raises(InputError, match=rf"has the application '{name}' at {route}.*serve.delete\('{name}'\)"):
        served(monkeypatch, fake)
    assert fake.did == []


@pytest.mark.parametrize(("host", "url"), [("::", "http://[::]:8000"), ("127.0.0.1", "http://127.0.0.1:8000")])
def test_an_address_of_ipv6_stands_in_brackets(host: str, url: str) -> None:
    assert Address(host).url == url
