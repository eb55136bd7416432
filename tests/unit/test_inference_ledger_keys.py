"""Keys of the ledger are what the first version computed: another key would pay again for work that is paid for.

A change of these constants is a change of every ledger. Rename a hashed key of the contract with `older_json` instead.
"""

from dataclasses import replace

import pyarrow as pa
import pytest

from engine.capture.capturer import JOINED, Capturer, CaptureSpec
from engine.contract.capture import Capture
from engine.contract.derived import RepairExamples
from engine.contract.judges import Judges
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.signals import Signals
from engine.contract.specialist import Specialist
from engine.contract.synthesize import Synthesis
from engine.contract.teachers import Teacher as TeacherSection
from engine.curation.contrastive import UNSOLVED
from engine.curation.repair import Repair, RepairSpec
from engine.inference import client as clients
from engine.inference.client import ClientSpec
from engine.inference.ledger import Ledger
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from engine.judges.rubric import Case
from engine.prompts.synthesizer import SHOWN, Synthesizer, SynthesizerSpec
from engine.rows import CANDIDATE, PROMPT, from_rows
from engine.scoring.scorer import Scorer, ScorerSpec
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher, TeacherSpec

MODEL = FakeModel(type="fake")
FAKE = {"type": "fake"}
OUTPUT = {"json_schema": {"type": "object", "properties": {"n": {}}}}
UNIT = {"name": "u", "kind": "extraction", "instruction": "Fill in.", "output": OUTPUT}
SPECIALIST = Specialist.model_validate({"goal": "Fill in the form.", "task_units": [UNIT]})
ROW = {
    "prompt_id": "aa", "task_unit": "u", "text": "send 7", "messages": [{"role": "user", "content": "send 7"}], "layer": "core"
}  # fmt: skip


@pytest.fixture
def recorded(monkeypatch):
    """Keys that are recorded in ledgers; the model's own identity, which a release of its engine may change, is fixed."""
    keys = []
    record = Ledger.record

    def spy(self, rows):
        keys.extend(rows[self.key].to_pylist())
        record(self, rows)

    monkeypatch.setattr(Ledger, "record", spy)
    monkeypatch.setattr(clients, "identity", lambda model, weights: "m")
    return keys


def spec(tmp_path):
    return ClientSpec(MODEL, Pool(), None, *(Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget")))


def test_answers_of_teachers(tmp_path, recorded):
    section = {
        "name": "t",
        "model": FAKE,
        "system": "S",
        "shots": {"fixed": [{"input": "a", "output": "b"}]},
        "structured": False,
        "thinks": {},
        "sampling": {"n": 3, "stop_after_verified": 2, "temperature": 0.7},
    }
    Teacher(TeacherSpec(TeacherSection.model_validate(section), SPECIALIST, spec(tmp_path)))(from_rows([ROW], PROMPT))
    assert sorted(recorded) == ["3a1763ca6dbcc5eac215130a7d06a195", "df54c82cb953e162a1d8525d74273694"]


def test_questions_and_identity_of_judges(tmp_path, recorded):
    dimension = {"name": "d", "question": "D?", "anchors": {"5": "good"}}
    rubric = {"name": "j", "model": FAKE, "system": "Judge.", "question": "{text} {answer}", "dimensions": [dimension]}
    section = Judges.model_validate({"rubrics": [rubric], "ranking": {"question": "{text} {first} {second}"}})
    judge = Judge(GraderSpec(section, SPECIALIST, Pool(), {"j": spec(tmp_path)}))
    judge.score([Case("aa", "send 7", "7")])
    assert recorded == ["bc420e0cf426966e2c55215068fb3320"]
    assert judge.identity == "a58383c66bda70999fd40d9e5eb6d41f"


def test_signals(tmp_path, recorded):
    section = Signals.model_validate({"model": FAKE, "complexity": {}, "quality": {"scale": ["a", "b"]}, "ifd": True})
    row = ROW | {"answer_id": "x", "answer": "7", "finish_reason": "stop", "pool": "train", "reasons": []}
    Scorer(ScorerSpec(section, SPECIALIST, spec(tmp_path)))(from_rows([row], CANDIDATE))
    assert sorted(recorded) == [
        "27a63bf66abf1062cac7bc0087ca2011", "5ddac08c77b3a88a8591d3d4d2e4afd5", "9b2f5623a24f16d44d2c53e01e089a4f"
    ]  # fmt: skip


def test_distributions_of_captures(tmp_path, recorded):
    section = TeacherSection.model_validate({"name": "t", "model": FAKE, "system": "S"})
    order = CaptureSpec(Capture(), section, SPECIALIST, spec(tmp_path))
    asked = [{"role": "user", "content": "send 7"}]
    row = {"example_id": "aa", "prompt_id": "aa", "task_unit": "u", "messages": asked, "target": '{"n":"7"}'}
    rows = pa.Table.from_pylist([{**row, "teacher": "t", "reasoning": "", "asked": asked, "text": "send 7"}], JOINED)
    for each in (order, replace(order, ending=(3,))):  # only a turn that ends otherwise than a text is scored anew
        Capturer(each)(rows)
    assert recorded == ["b58f25698133d59fd63d618f7e1c8472", "655f6fe0175f4a5670460448fd3eb965"]


def test_replies_of_synthesis(tmp_path, recorded):
    synthesis = Synthesis.model_validate({"method": {"type": "paraphrase"}, "wanted": 1, "model": FAKE})
    ask = {"ask": 1, "title": "paraphrase", "wanted": "core", "round": 1, "slot": 0, "shown": "aa", "batch": 0}
    writer = SynthesizerSpec((synthesis,), SPECIALIST, Pool(), spec(tmp_path), {"paraphrase": 1}, 500)
    list(Synthesizer(writer)(pa.Table.from_pylist([ROW | ask], schema=SHOWN)))
    assert recorded == ["cee461fd4e8f71c1a8a083fe2fd0dc10"]


def test_replies_of_repair(tmp_path, recorded):
    section = RepairExamples.model_validate({"type": "rewrite", "model": FAKE, "checks": [{"type": "json_schema"}]})
    row = ROW | {"example_id": "w-rewrite", "answer": "{}", "fault": "empty"}
    list(Repair(RepairSpec(section, SPECIALIST, spec(tmp_path)))(from_rows([row], UNSOLVED)))
    assert recorded == ["552c1052251d3c8569f1693add42deaa"]
