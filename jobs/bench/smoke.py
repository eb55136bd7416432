"""The shipped contract `smoke.yaml` with its first mails and the weights of its models, for benchmarks on real models."""

import json
from collections.abc import Sequence
from pathlib import Path

from engine.contract.contract import Contract
from engine.contract.load import load_contract
from engine.contract.models import Model
from engine.inference.locate import locate
from jobs import places
from jobs.bench.watch import ROOT

CONTRACT = ROOT / "jobs/contracts/smoke.yaml"
UNJUDGED = ["judges.evidence=null", "judges.calibrate=null", "judges.audit=null"]  # what gives the answers a confidence


def judged() -> list[str]:
    """Return the changes with which a rubric scores the answers, that of `order_mail.yaml`, and nothing else: no calibration."""
    rubrics = load_contract(CONTRACT.parent / "order_mail.yaml").contract.model_dump(mode="json")["judges"]["rubrics"]
    return [*UNJUDGED, f"judges.rubrics={json.dumps(rubrics)}"]


def contract(changes: Sequence[str]) -> Contract:
    """Return the contract with `changes`, as `--set` writes them."""
    return load_contract(CONTRACT, changes).contract


def mails(count: int) -> list[str]:
    """Return the first `count` mails of the contract's source."""
    lines = (CONTRACT.parent / contract(()).prompts.sources[0].path).read_text().splitlines()[:count]
    return [json.loads(line)["input"] for line in lines]


def weights(model: Model) -> Path:
    """Return the folder of the weights of a model of type `vllm`."""
    assert model.type == "vllm"
    return locate(model.path, root=str(CONTRACT.parent), home=places.models_home())
