"""A server with a certified cascade: who answers, and which certificates it refuses."""

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from serving_world import ANSWER, CONTRACT, Standin, error_of, serving, write_release

from engine.contract.contract import Contract
from engine.contract.models import Model, Sampling
from engine.contract.profile import Profile
from engine.contract.serving import NicheCheck
from engine.errors import InputError, ModelError, StorageError
from engine.evaluation.evaluator import EvalTarget
from engine.evaluation.predict import unchanged
from engine.inference.engine import Completion
from engine.records.certificate import CascadeResult, Certificate
from engine.records.release import ReleaseManifest
from engine.rows import content_id
from engine.serving.body import Limits
from engine.serving.build import Plan, build
from engine.serving.cascade_router import router_of
from engine.serving.deployment import Deployment, Measured, certified_part, load, manifest_of
from engine.serving.niche import Niche
from engine.serving.niche_engine import NicheEngine
from engine.serving.router import Answer, Asked
from engine.serving.worker import Load, Worker
from engine.storage.folder import Folder
from jobs.commands.serve_cascade import Order, choose
from jobs.steps.deployed import Place, asking, student_target, units_of

HOLDOUT = content_id("holdout", "p1", "p2")
OTHER = '{"product":"chairs","quantity":null}'
CERTIFICATE = Certificate(model="s", threshold=0.8, alpha=0.1, delta=0.1, starts=3, method="rows", guarantee="10 % at most.")
NO_THRESHOLD = CERTIFICATE.model_copy(update={"threshold": None, "reason": "too few rows"})


async def other(asked: Asked, deadline: float) -> Answer:
    """Answer what is handed on."""
    if "fail" in asked.text:
        raise OSError("connection reset")
    return Answer(OTHER, "length" if "cut" in asked.text else "stop", None, 70, 9, 0.5)


def handing_on_to(deployment: Deployment, model: dict[str, Any]) -> Deployment:
    """Return the deployment with a teacher behind `model`."""
    made = TypeAdapter[Model](Model).validate_python(model)
    teacher = EvalTarget("t", "teacher", made, units_of(CONTRACT), systems={"order": "Think of orders."}, max_tokens=32)
    student = student_target(CONTRACT, "s", Place("model"), asking(CONTRACT))
    measured = Measured(student, deployment.manifest.files, deployment.manifest.packages, teacher)
    return Deployment(manifest_of(CONTRACT, measured), deployment.folder)


class World:
    """A release, and the cascade.json of its certificate."""

    def __init__(self, folder: Path) -> None:
        self.release, self.file = write_release(folder / "release"), folder / "cascade.json"
        self.land(ReleaseManifest(student="s", fingerprint="f", files=(), holdout=HOLDOUT))
        self.deployment = load(Folder(str(self.release)))
        self.certify()

    def land(self, manifest: ReleaseManifest) -> None:
        """Write release.json."""
        (self.release / "release.json").write_text(manifest.model_dump_json())

    def certify(self, stages: tuple[str, ...] = ("s", "t"), **changes: Any) -> None:
        """Write the cascade, with `changes` of the certificate."""
        bound = {"deployment": certified_part(self.deployment.manifest), "holdout": HOLDOUT, **changes}
        certificate = CERTIFICATE.model_copy(update=bound)
        result = CascadeResult(stages=stages, certificates={certificate.model: certificate})
        self.file.write_text(result.model_dump_json())

    def choose(self, deployment: Deployment | None = None, **order: Any) -> Any:
        """Choose the router as `rayleigh serve` does; return it and what was said."""
        said: list[str] = []
        found = choose(deployment or self.deployment, Profile(name="here"), Order(str(self.file), **order), said.append)
        return found, said


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_sure_answer_is_given_and_unsure_cut_and_unknown_ones_are_handed_on(world: World) -> None:
    async def run() -> None:
        router = router_of(CERTIFICATE, "t")
        async with serving(world.release, router=router, handlers={"t": other}) as server:
            sure = (await server.task({"text": "red chairs"})).json()
            assert sure["output"] == json.loads(ANSWER) and (sure["route"], sure["abstained"]) == ("student", False)
            for completion in (
                Completion("", "stop", 7, 5, -0.3),  # 0.741
                Completion("", "stop", 7, 5, None),
                Completion("", "length", 7, 64, -0.1),
            ):
                server.engine.completion = completion
                body = (await server.task({"text": "red chairs"})).json()
                assert (body["route"], body["output"]) == ("t", json.loads(OTHER)) and body["reason"].startswith("s ")

    asyncio.run(run())


def test_failing_or_cut_fallback_is_an_error_and_gives_no_answer(world: World) -> None:
    async def run() -> None:
        async with serving(world.release, router=router_of(CERTIFICATE, "t"), handlers={"t": other}) as server:
            server.engine.completion = Completion("", "stop", 7, 5, -0.3)
            for text in ("fail", "cut"):
                response = await server.task({"text": text})
                assert error_of(response)[:2] == (502, "fallback_failed") and "chairs" not in response.text

    asyncio.run(run())


def test_without_a_fallback_the_server_abstains_with_the_reason(world: World) -> None:
    async def run() -> None:
        async with serving(world.release, router=router_of(CERTIFICATE, None)) as server:
            server.engine.completion = Completion("", "stop", 7, 5, -0.3)
            body = (await server.task({"text": "red chairs"})).json()
            assert body["abstained"] and body["output"] is None and "0.800 is needed" in body["reason"]
            assert (await server.chat()).json()["choices"][0]["message"]["content"] is None

    asyncio.run(run())


def test_without_a_threshold_the_student_is_never_asked(world: World) -> None:
    async def run() -> None:
        engine = Standin()
        async with serving(world.release, engine, router=router_of(NO_THRESHOLD, "t"), handlers={"t": other}) as server:
            before = len(engine.requests)
            body = (await server.task({"text": "red chairs"})).json()
            assert body["route"] == "t" and "too few rows" in body["reason"] and len(engine.requests) == before
        async with serving(world.release, engine, router=router_of(NO_THRESHOLD, None)) as server:
            assert (await server.task({"text": "red chairs"})).json()["abstained"]

    asyncio.run(run())


@pytest.mark.parametrize("outside", ["abstain", "hand_on"])
def test_a_request_outside_the_niche_never_comes_to_the_student(world: World, outside: Any) -> None:
    async def run() -> None:
        engine, section = Standin(), NicheCheck(outside=outside)
        checks = NicheEngine(Niche(section, ["en"]))
        niche = Worker(Load(lambda: checks, Sampling(), 4, 64))
        given: dict[str, Any] = {"router": router_of(CERTIFICATE, "t", section), "handlers": {"t": other}, "niche": niche}
        async with serving(world.release, engine, **given) as server:
            before = len(engine.requests)
            body = (await server.task({"text": "Guten Tag, ich bestelle drei blaue Tassen"})).json()
            assert body["abstained"] == (outside == "abstain") and body["reason"].startswith("outside the niche: language: de")
            assert len(engine.requests) == before and (outside == "abstain" or body["output"] == json.loads(OTHER))
            assert (await server.task({"text": "I should like to order red chairs"})).json()["output"] == json.loads(ANSWER)
            checks.niche = None  # type: ignore[assignment]
            assert error_of(await server.task({"text": "red chairs"}))[:2] == (500, "engine_error")
            assert len(engine.requests) == before + 1

    asyncio.run(run())


def test_certificate_of_this_release_is_taken_and_its_promise_is_said(world: World) -> None:
    found, [said, inside] = world.choose(below="abstain")
    assert found.router.cascade.rungs[0].threshold == 0.8 and found.fallback is None
    assert "from confidence 0.800 on: 10 % at most." in said and "abstains, as --fallback abstain says" in said
    assert "every request counts as inside the niche" in inside and found.niche is None
    pickle.loads(pickle.dumps(Plan(world.deployment, Profile(name="x").evaluator, router=found.router)))  # a replica gets it


def test_without_a_cascade_every_answer_is_given_as_before(world: World) -> None:
    assert choose(world.deployment, Profile(name="here"), Order(), pytest.fail) is None
    for order in (Order(below="abstain"), Order(with_teacher=True)):
        with pytest.raises(InputError, match="name its file with --cascade FILE"):
            choose(world.deployment, Profile(name="here"), order, pytest.fail)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deployment": "0" * 64}, r"does not hold for .*: certified for deployment 000000000000, and .* is served; certify again"),
        ({"deployment": ""}, "certified for deployment unknown"),
        ({"deployment": "0" * 64, "threshold": None}, "certified for deployment 000000000000"),
        ({"holdout": "another"}, "certified on holdout another, which is .* now; certify again"),
        ({"model": "xs"}, "has certificates of xs, and the release serves 's'"),
        ({"stages": ("xs", "s", "t")}, "'s' was certified on what 'xs' leaves, and here it is asked first"),
    ],
)
def test_certificate_of_something_else_is_refused(world: World, changes: dict[str, Any], message: str) -> None:
    world.certify(**changes)
    with pytest.raises(InputError, match=message):
        world.choose()


def test_certificate_expires_when_decoding_or_weights_change_but_not_when_a_price_does(world: World, tmp_path: Path) -> None:
    def part(change: str) -> str:
        content = CONTRACT.model_dump(mode="json")
        if change == "prompt":
            content["specialist"]["task_units"][0]["instruction"] = "Fill in the form."
        if change == "spans":
            content["specialist"]["task_units"][0]["output"]["spans"] = {"product": 3}
        if change == "redact":
            content["prompts"]["redact"] = []
        if change == "price":
            content["budget"]["price"]["per_machine_hour"] = 9.0
        return certified_part(load(Folder(str(write_release(tmp_path / change, Contract.model_validate(content))))).manifest)

    same = certified_part(world.deployment.manifest)
    assert part("price") == same and len({part("prompt"), part("spans"), part("redact"), same}) == 4
    files = tuple(replace(file, sha256="0" * 64) for file in world.deployment.manifest.files)
    assert certified_part(world.deployment.manifest.model_copy(update={"files": files})) != same


def test_release_of_an_earlier_version_does_not_say_its_holdout(world: World) -> None:
    world.land(ReleaseManifest(student="s", fingerprint="f", files=()))
    assert "holdout" not in (world.release / "release.json").read_text()
    world.certify(holdout="another")
    assert world.choose()[0].router.cascade.rungs[0].threshold == 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no cascade.json"), ("[]", "is no cascade.json"), ('{"version": 2}', "found version 2, this program")],
)
def test_damaged_file_is_refused(world: World, text: str, message: str) -> None:
    world.file.write_text(text)
    with pytest.raises(StorageError, match=message):
        world.choose()
    world.file.unlink()
    with pytest.raises(StorageError, match=r"there is no such file.*rayleigh cascade RUN"):
        world.choose()


class Teacher(BaseHTTPRequestHandler):
    """A server of chat completions: answers OTHER, or as `server.does` says."""

    def do_POST(self) -> None:
        asked: Any = self.server
        asked.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if asked.does == "hang":
            asked.may_go.wait(30)
        status = 500 if asked.does == "fail" else 200
        choice = {"index": 0, "message": {"role": "assistant", "content": OTHER}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79}
        content = json.dumps({"choices": [choice], "usage": usage} if status == 200 else {"error": {"message": "down"}}).encode()
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the caller has gone
            pass

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def teacher() -> Iterator[Any]:
    running: Any = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    running.bodies, running.does, running.may_go = [], "", threading.Event()
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.may_go.set()
    running.shutdown()
    running.server_close()


def test_endpoint_is_asked_as_in_the_evaluation_and_its_failure_is_an_error(world: World, teacher: Any) -> None:
    model = {"type": "endpoint", "url": f"http://127.0.0.1:{teacher.server_address[1]}/v1", "path": "big", "retries": 0}
    deployment = handing_on_to(world.deployment, model)
    chosen, [said, _] = world.choose(deployment)
    assert "Below, t is asked" in said and pickle.loads(pickle.dumps(chosen.fallback)) == chosen.fallback  # a replica gets it

    async def run() -> None:
        given: dict[str, Any] = {"deployment": deployment, "router": chosen.router, "fallback": chosen.fallback}
        async with serving(world.release, **given) as server:
            assert (await server.task({"text": "red chairs"})).json()["route"] == "student" and not teacher.bodies
            server.engine.completion = Completion("", "stop", 7, 5, -0.3)
            body = (await server.task({"text": "three red chairs, mail a@b.org"})).json()
            assert (body["route"], body["output"]) == ("t", json.loads(OTHER)) and body["usage"]["total_tokens"] == 79
            [sent] = teacher.bodies
            assert sent["messages"][0] == {"role": "system", "content": "Think of orders."} and "a@b.org" not in str(sent)
            text = sent["messages"][1]["content"]
            row = {"task_unit": "order", "messages": [{"role": "user", "content": text}], "text": text}
            measured = deployment.fallback().request(row)  # type: ignore[union-attr]
            assert sent["response_format"]["json_schema"]["schema"] == measured.json_schema and sent["temperature"] == 0.0
            assert (sent["model"], sent["max_tokens"], sent["seed"]) == ("big", 32, 0)
            teacher.does = "fail"
            response = await server.task({"text": "chairs"})
            assert error_of(response)[:2] == (502, "fallback_failed") and "product" not in response.text
        async with serving(world.release, limits=Limits(deadline=0.5), **given) as server:
            server.engine.completion = Completion("", "stop", 7, 5, -0.3)
            teacher.does = "hang"
            assert error_of(await server.task({"text": "chairs"}))[:2] == (504, "deadline_exceeded")
            assert not teacher.may_go.is_set()

    asyncio.run(run())


def test_key_of_the_endpoint_must_be_there_before_the_server_listens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    model = {"type": "endpoint", "url": "http://127.0.0.1:1/v1", "path": "big", "key_env": "TEACHER_KEY"}
    deployment = handing_on_to(world.deployment, model)
    chosen, _ = world.choose(deployment)
    plan = Plan(deployment, Profile(name="x").evaluator, router=chosen.router, fallback=chosen.fallback)
    with pytest.raises(ModelError, match="TEACHER_KEY holds no key"):
        build(plan, unchanged)


def test_teacher_that_is_no_endpoint_is_loaded_only_if_told_so(world: World) -> None:
    deployment = handing_on_to(world.deployment, {"type": "fake", "replies": (OTHER,)})
    chosen, [said, _] = world.choose(deployment)
    assert chosen.fallback is None and "abstains, as t is not loaded (--with-teacher loads it)" in said
    for order, message in (
        ({"with_teacher": True}, "needs --local"),
        ({"below": "teacher"}, "load it beside the student: --with-teacher"),
        ({"below": "abstain", "with_teacher": True}, "leave one of them out"),
    ):
        with pytest.raises(InputError, match=message):
            world.choose(deployment, **order)
    with pytest.raises(InputError, match="names no teacher that a server can ask"):
        world.choose(with_teacher=True, local=True)
    chosen, [said, _] = world.choose(deployment, with_teacher=True, local=True)
    assert "Below, t is asked" in said

    async def run() -> None:
        given: dict[str, Any] = {"deployment": deployment, "router": chosen.router, "fallback": chosen.fallback}
        async with serving(world.release, **given) as server:
            server.engine.completion = Completion("", "stop", 7, 5, -0.3)
            body = (await server.task({"text": "chairs"})).json()
            assert (body["route"], body["output"]) == ("t", json.loads(OTHER))
            assert (await server.client.get("/readyz")).status_code == 200
            server.app.service.teacher.fault = RuntimeError("gone")  # type: ignore[union-attr]
            assert (await server.client.get("/healthz")).status_code == 503

    asyncio.run(run())
