"""Quality signals by a real model: an answer that its prompt explains is easier than one that it does not."""

from pathlib import Path

import pytest

from engine.contract.models import VllmModel
from engine.contract.profile import Pool
from engine.contract.signals import SIGNALS, Complexity, Quality, Signals
from engine.contract.specialist import Specialist
from engine.inference.client import ClientSpec
from engine.inference.locate import locate
from engine.rows import CANDIDATE, content_id, from_rows
from engine.scoring.scorer import Scorer, ScorerSpec
from engine.storage.folder import Folder
from jobs.places import models_home

pytestmark = [pytest.mark.modes, pytest.mark.timeout(600)]
MAIL = "Please send 40 oak shelves to our shop in Cork. The order number is 12345."
SAID = [(MAIL, "40 oak shelves, order number 12345"), (MAIL, "7 wool blankets, order number 99887"), ("Hello.", "Hello. " * 40)]


def test_signals_of_a_real_model(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    model = VllmModel(type="vllm", path="smollm2-135m-instruct")
    client = ClientSpec(
        model=model,
        pool=Pool(kv_cache_gib=0.5, batch=8),
        weights=locate(model.path, root=".", home=models_home()),
        ledger=folder / "signals",
        markers=folder / "markers",
        budget=folder / "budget",
    )
    specialist = Specialist.model_validate({"goal": "g", "task_units": [{"name": "u", "kind": "extraction"}]})
    section = Signals(model=model, complexity=Complexity(), quality=Quality(), ifd=True, density=True)
    rows = [
        {
            "prompt_id": content_id(text),
            "answer_id": content_id(text, answer),
            "task_unit": "u",
            "text": text,
            "messages": [{"role": "user", "content": text}],
            "answer": answer,
            "finish_reason": "stop",
            "pool": "train",
            "reasons": [],
        }
        for text, answer in SAID
    ]
    found = Scorer(ScorerSpec(section, specialist, client))(from_rows(rows, CANDIDATE)).select(list(SIGNALS)).to_pylist()
    print(found)
    said, other, again = found
    assert all(1 <= one[name] <= 6 for one in found for name in ("complexity", "quality"))
    assert said["complexity"] == other["complexity"] != again["complexity"]  # of the prompt alone
    assert said["ifd"] < 0.8 and said["ifd"] < other["ifd"]  # its words stand in the mail
    assert again["density"] < 0.3 < said["density"]
