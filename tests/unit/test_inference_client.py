"""The client of paid work: nothing is paid twice, older ledgers are found again, and keys stay what they were."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.models import EndpointModel, FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.renames import older_json
from engine.curation import repair
from engine.inference.client import Batch, ClientSpec, ModelClient, completed, even, measured
from engine.inference.engine import Completion, Lost, Request, build_model
from engine.inference.ledger import SCHEMA_VERSION, Ledger
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, TokenBudget, TokenUsage, usage_in
from engine.judges import judge_client
from engine.prompts import synthesizer
from engine.rows import TRAJECTORY, VERSION, content_id
from engine.scoring import scorer
from engine.storage.folder import Folder
from engine.teachers import teacher

ECHO = pa.schema([("prompt_id", pa.string()), ("key", pa.string()), ("text", pa.string())])
TURN = {"role": "assistant", "content": "2", "tool": "", "ok": True}
# The columns of each ledger, and a row, as schema version 3 wrote them: before a file named its version.
OLDER = {
    "teachers": (teacher.PAID, {
        "prompt_id": "aa", "answer_id": "k", "teacher": "t", "sample": 1, "seed": 7, "answer": "2", "ending": "stop",
        "tokens_in": 3, "tokens_out": 1, "logprob": -0.5, "seconds": 0.25, "error": "", "trajectory": [TURN],
    }),
    "judges": (judge_client.PAID, {"prompt_id": "aa", "question_id": "k", "shares": [0.25, 0.75]}),
    "signals": (scorer.PAID, {"prompt_id": "aa", "number_id": "k", "value": 4.75}),
    "synthesis": (synthesizer.PAID, {
        "ask_id": "k", "parent_id": "aa", "text": "hello", "ending": "length", "tokens_in": 9, "tokens_out": 2, "error": "",
    }),
    "boundary": (repair.PAID, {"prompt_id": "aa", "ask_id": "k", "text": "mended", "ending": "stop"}),
}  # fmt: skip


def client(tmp_path, *, cap=None, schema=ECHO, **model):
    folders = (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    spec = ClientSpec(FakeModel(type="fake", **model), Pool(), None, *folders, cap=cap, payee="p")
    return ModelClient(spec, schema, prompt_id=lambda text: content_id(text), crashed=lambda text: {"text": "crashed"})


def echo(engine, texts):
    completions = engine.complete([Request([{"role": "user", "content": text}], 0, 0.0) for text in texts], Sampling())
    return completed(completions, [{"text": one.text} for one in completions])


def answer(one, *texts, call=echo, **options):
    with one.block(content_id(text) for text in texts):
        return {key: row["text"] for key, row in one.answer({text: text for text in texts}, call, **options).items()}


def test_answer_is_paid_once_and_found_without_the_model(tmp_path):
    assert answer(client(tmp_path), "a b", "c") == {"a b": "a b", "c": "c"}
    again = client(tmp_path)
    assert answer(again, "c", "a b") == {"a b": "a b", "c": "c"} and again.engine is None
    assert usage_in(again.spec.budget) == {"p": TokenUsage(2, 3, 3)}


def test_request_that_the_budget_does_not_reach_is_left_out(tmp_path):
    one = client(tmp_path, cap=2)
    assert answer(one, "a", "b", "c", "d", batch=2) == {"a": "a", "b": "b"}  # one batch spends the cap
    assert answer(one, "a", "c", capped=False) == {"a": "a", "c": "c"}


def test_retryable_row_is_returned_and_not_recorded(tmp_path):
    def lost(engine, texts):
        completions = [Completion("lost", "error", 0, 0, retryable=text == "a") for text in texts]
        return completed(completions, [{"text": one.text} for one in completions])

    assert answer(client(tmp_path), "a", "b", call=lost) == {"a": "lost", "b": "lost"}
    assert answer(client(tmp_path), "a", "b") == {"a": "a", "b": "lost"}


def test_lost_value_is_null_is_free_and_is_asked_again(tmp_path):
    call = measured(lambda engine, texts: [Lost() if text == "a" else None for text in texts], "text")
    assert answer(client(tmp_path), "a", "b", call=call) == {"a": None, "b": None}
    assert usage_in(Folder(str(tmp_path / "budget"))) == {"p": TokenUsage(1, 0, 1)}
    assert answer(client(tmp_path), "a", "b") == {"a": "a", "b": None}


def test_answer_is_returned_as_the_ledger_keeps_it(tmp_path):
    schema = pa.schema([("prompt_id", pa.string()), ("key", pa.string()), ("text", pa.float32())])
    call = measured(lambda engine, texts: [0.1 for _ in texts], "text")
    fresh = answer(client(tmp_path, schema=schema), "a", call=call)
    assert fresh == answer(client(tmp_path, schema=schema), "a") and fresh["a"] != 0.1


def test_payee_and_read_tokens_are_noted(tmp_path):
    def read(engine, texts):
        engine.tokens_read += 10
        return ["x" for _ in texts]

    answer(client(tmp_path), "a", "b", call=measured(read, "text"), payee="judge")
    assert usage_in(Folder(str(tmp_path / "budget"))) == {"judge": TokenUsage(2, 10, 2)}


def test_batch_without_usage_is_noted_as_free(tmp_path):
    answer(client(tmp_path), "a", call=lambda engine, texts: Batch([{"text": "x"}], TokenUsage()))
    assert usage_in(Folder(str(tmp_path / "budget"))) == {"p": TokenUsage()}


@pytest.mark.parametrize("model", [FakeModel(type="fake"), EndpointModel(type="endpoint", url="http://h/v1", path="m")])
def test_only_engines_are_watched_for_calls_that_hang(tmp_path, monkeypatch, model):
    watched = []
    watch = lambda seconds, **_: watched.append(seconds)  # noqa: E731
    monkeypatch.setattr("engine.inference.crash_isolation.faulthandler.dump_traceback_later", watch)
    one = client(tmp_path)
    spec = replace(one.spec, model=model, pool=Pool(hang_seconds=7))
    asked = ModelClient(spec, ECHO, prompt_id=content_id, crashed=lambda text: {"text": "crashed"})
    asked.engine = build_model(one.spec.model, Pool(), folder=None)
    assert answer(asked, "a", "b") == {"a": "a", "b": "b"}
    assert watched == ([] if model.type == "endpoint" else [7])


@pytest.mark.parametrize(("count", "most", "sizes"), [(0, 3, []), (3, 3, [3]), (4, 3, [2, 2]), (7, 3, [2, 2, 3])])
def test_batches_are_of_nearly_equal_size(count, most, sizes):
    assert [len(batch) for batch in even(["k"] * count, most)] == sizes


@pytest.mark.parametrize("name", OLDER)
def test_row_of_an_older_ledger_is_found(tmp_path, name):
    schema, row = OLDER[name]
    kinds = {"ending": pa.string(), "trajectory": TRAJECTORY}
    kinds |= {field.name: field.type for field in schema}
    older = pa.schema([(column, kinds[column]) for column in row])
    pq.write_table(pa.Table.from_pylist([row], schema=older), tmp_path / "aa-aa-0123456789.parquet")
    ledger = Ledger(Folder(str(tmp_path)), schema, key=schema.names[1], partition_key=schema.names[0])
    with ledger.block(["aa"]):
        [found] = ledger.find(["k"]).to_pylist()
    kept = {"finish_reason" if column == "ending" else column: value for column, value in row.items()}
    assert {column: found[column] for column in kept} == kept


def test_row_of_an_older_ledger_and_a_new_one_are_merged_into_one_file_of_today(tmp_path):
    schema, row = OLDER["boundary"]
    older = pa.schema([(column, pa.string()) for column in row])
    pq.write_table(pa.Table.from_pylist([row], schema=older), tmp_path / "aa-aa-0123456789.parquet")
    ledger = Ledger(Folder(str(tmp_path)), schema, key="ask_id", partition_key="prompt_id")
    with ledger.block(["aa"]):
        ledger.record(pa.table([["aa"], ["l"], ["new"], ["stop"]], schema=schema))
    [path] = ledger.folder.files()
    merged = pq.read_table(tmp_path / path)
    assert merged["ask_id"].to_pylist() == ["k", "l"] and merged.schema.metadata[SCHEMA_VERSION] == str(VERSION).encode()


def test_usage_that_an_older_version_noted_counts(tmp_path):
    run = Folder(str(tmp_path))
    (run / "purse/teachers").write("a.json", b'{"t": [1, 10, 5]}')
    TokenBudget(run / TEACHER_TOKENS, None).add("t", TokenUsage(1, 1, 1))
    assert usage_in(run / TEACHER_TOKENS) == {"t": TokenUsage(2, 11, 6)} and usage_in(run / JUDGE_TOKENS) == {}
    assert TokenBudget(run / TEACHER_TOKENS, 17).is_exhausted()


@pytest.mark.parametrize("path", ["prompts.synthesize.*.sampling", "curation.boundary.*.sampling", "teachers.models.*.sampling"])
def test_sampling_is_hashed_under_its_older_names(path):
    """Keys of the ledger are hashes of this text: other bytes would make paid work unreachable."""
    found = older_json(Sampling(temperature=0.8, top_p=0.95, max_tokens=256), path)
    assert found == ('{"n":1,"enough":null,"temperature":0.8,"greedy_first":false,"top_p":0.95,"max_tokens":256,"seed":0}')
