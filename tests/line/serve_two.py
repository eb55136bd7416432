"""`python serve_two.py FOLDER`: a random student and a bundled teacher answer mails alone and at the same time, in one server."""

import asyncio
import dataclasses
import os
import sys
import time
from pathlib import Path

from serve_world import PROFILE, mails, promote_tiny

from engine.contract.models import VllmModel
from engine.contract.profile import load_profile
from engine.distributed.environment import server_environment
from engine.evaluation.evaluator import EvalTarget
from engine.inference.bundled import unpack
from engine.serving.body import Limits
from engine.serving.build import Plan, build
from engine.serving.deployment import Deployment, load
from engine.serving.fallback import Fallback
from engine.serving.router import Asked
from engine.serving.service import request_of
from engine.serving.worker import Worker
from engine.storage.folder import Folder
from jobs.places import models_home

BUNDLED = "smollm2-135m-instruct"


class Exact(Deployment):
    """Computes in float32: answers do not depend on the rest of a batch."""

    def student(self, *, packages: str | None = None) -> EvalTarget:
        """Return the student with weights in float32."""
        target = super().student(packages=packages)
        return dataclasses.replace(target, model=target.model.model_copy(update={"dtype": "float32"}))


async def compare(folder: Path) -> bool:
    """Return whether both engines give the same texts and counts alone and together."""
    pool = load_profile(PROFILE).evaluator
    [release] = (promote_tiny(folder) / "releases").iterdir()
    found = load(Folder(str(release)))
    deployment = Exact(found.manifest, found.folder)
    student, big = deployment.student(), unpack(BUNDLED, Path(models_home()))
    model = VllmModel(type="vllm", path=BUNDLED, dtype="float32", max_model_len=1024)
    teacher = dataclasses.replace(student, name="t", role="teacher", model=model)
    plan = Plan(deployment, pool, Limits(queue=64), fallback=Fallback(teacher, pool, str(big)))
    service = build(plan, lambda answer, unit: answer).service
    assert service.teacher is not None
    service.start()
    while not service.is_ready:
        assert service.fault is None, service.fault
        await asyncio.sleep(0.2)

    async def answers(worker: Worker, target: EvalTarget) -> list[tuple[str, int]]:
        unit, until = next(iter(target.units.values())), time.monotonic() + 200
        asked = [request_of(target, Asked(unit, row["messages"], row["text"])) for row in mails()[:4]]
        computed = await asyncio.gather(*(worker.ask(request, deadline=until) for request in asked))
        return [(each.completion.text, each.completion.tokens_out) for each in computed]

    alone = [await answers(service.worker, student), await answers(service.teacher, teacher)]
    together = await asyncio.gather(answers(service.worker, student), answers(service.teacher, teacher))
    service.stop(30)
    return alone == together and alone[0] != alone[1]


if __name__ == "__main__":
    os.environ.update(server_environment(load_profile(PROFILE).evaluator, os.environ))
    print("equal" if asyncio.run(compare(Path(sys.argv[1]))) else "different")
