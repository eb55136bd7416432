"""Prompts written from seeds: methods, rejects, parents, copies, and paid replies."""

import itertools
import json
import os
from dataclasses import replace

import in_process
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.prompts import Copies
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.contract.synthesize import Synthesis
from engine.errors import ModelError
from engine.inference.client import ClientSpec
from engine.inference.fake import FakeEngine
from engine.prompts import copies, quota, tables
from engine.prompts.files import SourceFile
from engine.prompts.methods import ECHO, OPERATORS
from engine.prompts.sources import INGESTED, identify, ingest_row
from engine.prompts.synthesizer import Synthesizer, SynthesizerSpec
from engine.readers.raw import RawRow
from engine.rows import PROMPT
from engine.storage.folder import Folder

COPIES = Copies(threshold=0.7, ngram=2)
NUMBER = {"anyOf": [{"type": "string", "pattern": "^[0-9]{5}$"}, {"type": "null"}]}
COUNT = {"anyOf": [{"type": "string", "pattern": "^[0-9]{1,3}$"}, {"type": "null"}]}
ANY = {"type": ["string", "null"]}
FORM = Output(
    json_schema={"type": "object", "properties": {"number": NUMBER, "count": COUNT, "what": ANY}},
    spans={"number": 1, "count": 1, "what": 3},
)
SPECIALIST = Specialist(goal="Fill in the form.", task_units=(TaskUnit(name="form", kind="extraction", output=FORM),))
SEEDS = [
    "Hello, please send us 12 desk lamps. The order number is 40127. Regards, Tom",
    "Our shop in Bath wants 7 coat racks before Friday. Book them under 55310, please. Thanks, Priya",
    "Good day, 30 wool blankets for the hospital. Put 61234 on the invoice. Yours, Ann",
]
HELD = "For our hotel by the sea we need 44 oak shelves by May. The reference is 70700. Sincerely, Bob"


def synthesis(kind, *replies, **more):
    given = {"wanted": 3, "sampling": Sampling(max_tokens=200), "model": FakeModel(type="fake", replies=replies)}
    return Synthesis.model_validate({"method": {"type": kind}, **given, **more})


def read(texts, side, *, number, layers=()):
    """Return rows of a source, as INGESTED."""
    columns = {name: name for name in ("text", "layer", "scenario", "language")}
    file = SourceFile(f"{side}.jsonl", f"{side}.jsonl", f"{side}.jsonl", number, side, "form", "CC0-1.0", columns)
    kinds = list(layers) or ["core"] * len(texts)
    rows = [
        ingest_row(RawRow(line, {"text": text, "layer": layer, "scenario": "plain", "language": "en"}, text), file, max_chars=500)
        for line, (text, layer) in enumerate(zip(texts, kinds, strict=True), 1)
    ]
    return identify(pa.Table.from_pylist(rows, schema=INGESTED))


def settled(rows):
    signed = copies.sign(rows, COPIES)
    return tables.label(rows, in_process.dispositions(signed, COPIES), {})


def spec(tmp_path, one, batch=2, cap=None):
    pool, folders = Pool(batch=batch), (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    client = ClientSpec(one.model, pool, None, *folders, cap=cap, payee="synthesis") if one.model else None
    return SynthesizerSpec((one,), SPECIALIST, pool, client, numbers={one.title: 2}, max_chars=500)


def written(tmp_path, one, *, seeds=SEEDS, layers=(), wanted=None):
    """Run one round as the job does, without Ray; return LABELLED of seeds, holdout and written prompts."""
    rows = pa.concat_tables([read(seeds, "train", number=0, layers=layers), read([HELD], "holdout", number=1)])
    labelled = settled(rows)
    wanted = wanted or {(one.title, "core"): 3}
    requests = quota.requests([one], wanted, round=1, units_with_facts=["form"])
    mine = labelled.filter(pc.equal(labelled["disposition"], "prompts"))
    asks = quota.batched(quota.assign(mine, requests, done={}), [one.title], size=2)
    made = pa.concat_tables(Synthesizer(spec(tmp_path, one))(quota.with_seeds(mine, asks)))
    return settled(pa.concat_tables([rows, identify(made.select(INGESTED.names))]))


def dispositions(labelled):
    return [row["disposition"] for row in children(labelled)]


def children(labelled):
    return labelled.filter(pc.equal(labelled["round"], 1)).sort_by("row_key").to_pylist()


NEW = (
    "Kindly deliver 5 garden hoses to the rectory. We file it as 10001. Bless you, Father Paul",
    "The school needs 90 blue pencils before the exams in June begin. Reference 20002, invoice to the town hall.",
    "After the flood we lost all: may we have 16 mops and a pump from you? 30003 is what my boss wrote down.",
)


@pytest.mark.parametrize("kind", ["self_instruct", "evolve"])
def test_written_prompts_are_kept_with_parent_layer_source_and_line(tmp_path, kind):
    labelled = written(tmp_path, synthesis(kind, *NEW))
    seeds = {row["prompt_id"]: row for row in labelled.to_pylist() if row["path"] == "train.jsonl"}
    rows = children(labelled)
    assert [row["text"] for row in rows] == list(NEW)
    assert {row["parent_id"] for row in rows} == set(seeds)
    for line, row in enumerate(rows, 1):
        assert (row["disposition"], row["source"], row["line"]) == ("prompts", f"synthesize/{kind}", line)
        parent = seeds[row["parent_id"]]
        assert all(row[name] == parent[name] for name in ("task_unit", "licence", "language", "layer"))
    assert tables.select_table(labelled, "prompts").num_rows == 6
    assert pc.all(tables.select_table(labelled, "prompts")["parent_id"].is_valid()).as_py() is False


def asked_by(tmp_path, monkeypatch, one, **more):
    """The chats that the engine got."""
    seen = []
    complete = FakeEngine.complete

    def spy(self, requests, sampling):
        seen.extend(requests)
        return complete(self, requests, sampling)

    monkeypatch.setattr(FakeEngine, "complete", spy)
    written(tmp_path, one, **more)
    return [request.chat for request in seen], [request.seed for request in seen]


def test_what_one_synthesis_has_paid_is_kept_when_another_fails(tmp_path, monkeypatch):
    both = [synthesis("self_instruct", *NEW), synthesis("evolve", *NEW)]
    asked, complete = [], FakeEngine.complete

    def fail(self, requests, sampling):
        asked.append(len(requests))
        if len(asked) == 2:
            raise ModelError("the server is away")
        return complete(self, requests, sampling)

    monkeypatch.setattr(FakeEngine, "complete", fail)
    mine = read(SEEDS, "train", number=0)
    mine = settled(mine).filter(pc.equal(settled(mine)["disposition"], "prompts"))
    requests = quota.requests(both, {(one.title, "core"): 3 for one in both}, round=1, units_with_facts=["form"])
    asks = quota.batched(quota.assign(mine, requests, done={}), [one.title for one in both], size=6)
    spec_of_both = replace(spec(tmp_path, both[0]), syntheses=both, numbers={one.title: 2 + at for at, one in enumerate(both)})
    with pytest.raises(ModelError, match="the server is away"):
        list(Synthesizer(spec_of_both)(quota.with_seeds(mine, asks)))
    made = pa.concat_tables(Synthesizer(spec_of_both)(quota.with_seeds(mine, asks)))
    assert made.num_rows == 6 and asked == [3, 3, 3]  # not the first three again


def test_self_instruct_shows_seeds_the_parent_last_and_never_the_holdout(tmp_path, monkeypatch):
    chats, seeds = asked_by(tmp_path, monkeypatch, synthesis("self_instruct", method={"type": "self_instruct", "num_examples": 2}))
    assert len(chats) == len(set(seeds)) == 3
    for chat in chats:
        said = [turn["content"] for turn in chat if turn["role"] == "assistant"]
        assert len(said) == 2 and set(said) <= set(SEEDS)
        assert HELD not in str(chat) and "Fill in the form." in chat[0]["content"]


def test_evolve_takes_its_operators_in_turn(tmp_path, monkeypatch):
    operators = ["deepen", "more_steps"]
    chats, _ = asked_by(tmp_path, monkeypatch, synthesis("evolve", method={"type": "evolve", "operators": operators}))
    used = [[name for name in OPERATORS if OPERATORS[name] in chat[-1]["content"]] for chat in chats]
    assert sorted(used) in ([["deepen"], ["deepen"], ["more_steps"]], [["deepen"], ["more_steps"], ["more_steps"]])


def test_layer_that_is_asked_for_is_in_the_order_and_on_the_prompt(tmp_path, monkeypatch):
    one = synthesis("evolve", *NEW, method={"type": "evolve", "operators": ["broaden"]})
    chats, _ = asked_by(tmp_path, monkeypatch, one, wanted={("evolve", "long_tail"): 2})
    assert all("It is a rare message" in chat[-1]["content"] for chat in chats)
    rows = children(written(tmp_path, one, wanted={("evolve", "long_tail"): 2}))
    assert [row["layer"] for row in rows] == ["long_tail", "long_tail"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "synthesis_empty"),
        ("Yes.", "synthesis_empty"),
        ("Rewritten message: please, keep the given message as it is", "synthesis_echo"),
        ("I'm sorry, but I cannot write such a mail.", "synthesis_refused"),
        ("word " * 201, "synthesis_failed"),
        ("long " * 150, "too_long"),
    ],
)
def test_reply_that_is_no_prompt_is_a_reject_with_its_reason(tmp_path, reply, reason):
    one = synthesis("self_instruct", reply)
    assert ECHO.search("given message")
    assert dispositions(written(tmp_path, one)) == [reason] * 3


def test_reply_that_says_what_its_seed_says_is_unchanged(tmp_path):
    assert dispositions(written(tmp_path, synthesis("evolve", SEEDS[0].upper()), seeds=SEEDS[:1])) == ["synthesis_unchanged"] * 3


def test_label_and_quotes_around_a_reply_are_no_part_of_it(tmp_path):
    reply = f'Here is the rewritten message: "{NEW[0]}"'
    assert children(written(tmp_path, synthesis("evolve", reply)))[0]["text"] == NEW[0]


def test_paraphrase_with_other_numbers_is_refused_and_one_with_the_same_is_kept(tmp_path):
    faithful = "Tom here. May I have a dozen, that is 12, of your desk lamps? For the books: 40127."
    lost = "Tom here. May I have a dozen of your desk lamps? For the books: 40128."
    rows = children(written(tmp_path, synthesis("paraphrase", faithful, lost), seeds=SEEDS[:1], wanted={("paraphrase", "core"): 2}))
    assert [row["disposition"] for row in rows] == ["prompts", "synthesis_unfaithful"]
    assert rows[1]["detail"] == "lost 12, lost 40127, invented 40128"


def test_paraphrase_stays_in_its_layer(tmp_path):
    one = synthesis("paraphrase", *NEW)
    assert children(written(tmp_path, one, wanted={("paraphrase", "long_tail"): 2})) == []


def test_near_copies_of_seed_holdout_and_each_other_lose_and_name_whom_they_lost_to(tmp_path):
    held = HELD.replace("Sincerely", "Greetings")
    one = synthesis("self_instruct", SEEDS[0] + " Bye", held, NEW[0], NEW[0])
    labelled = written(tmp_path, one, wanted={("self_instruct", "core"): 4})
    ids = {row["text"]: row["prompt_id"] for row in labelled.to_pylist() if row["disposition"] in ("prompts", "holdout")}
    lost = {row["text"]: (row["disposition"], row["duplicate_of"]) for row in children(labelled) if row["disposition"] != "prompts"}
    assert lost == {
        SEEDS[0] + " Bye": ("near_copy", ids[SEEDS[0]]),
        held: ("holdout_near", ids[HELD]),
        NEW[0]: ("exact_copy", ids[NEW[0]]),
    }


@pytest.mark.parametrize("last", range(20))
def test_seed_wins_against_every_synthetic_copy_whatever_the_ids(last):
    seeds = read(["one two three four five six seven eight"], "train", number=0)
    copy = seeds.to_pylist()[0] | {"round": 1, "row_key": 5, "text": f"one two three four five six seven eight {last}"}
    copy["messages"] = [{"role": "user", "content": copy["text"]}]
    rows = pa.concat_tables([identify(pa.Table.from_pylist([copy], schema=INGESTED)), seeds])
    assert settled(rows)["disposition"].to_pylist() == ["near_copy", "prompts"]


def test_synthetic_prompt_between_two_seeds_makes_them_no_copies_nor_one_of_the_holdout():
    words = "a1 b2 c3 d4 e5 f6 g7 h8 i9 j10 k11 l12 m13 n14 o15 p16".split()
    first, middle, last = (" ".join(words[start : start + 12]) for start in (0, 2, 4))
    strict = Copies(threshold=0.6, ngram=1)
    rows = pa.concat_tables([read([first], "train", number=0), read([last], "holdout", number=1)])
    one = rows.to_pylist()[0] | {"text": middle, "messages": [{"role": "user", "content": middle}], "round": 1, "row_key": 9}
    rows = pa.concat_tables([rows, identify(pa.Table.from_pylist([one], schema=INGESTED))])
    signed = copies.sign(rows, strict)
    found = in_process.dispositions(signed, strict)
    assert [(row["row_key"], row["disposition"]) for row in found.to_pylist()] == [(9, "holdout_near")]


def shown(tmp_path, one):
    rows = settled(read(SEEDS, "train", number=0))
    requests = quota.requests([one], {(one.title, "core"): 3}, round=1, units_with_facts=[])
    return quota.with_seeds(rows, quota.batched(quota.assign(rows, requests, done={}), [one.title], size=2))


def test_what_was_paid_for_is_not_asked_again_and_comes_out_the_same(tmp_path, monkeypatch):
    one = synthesis("evolve", *NEW)
    seeds = shown(tmp_path, one)
    first = pa.concat_tables(Synthesizer(spec(tmp_path, one))(seeds))
    monkeypatch.setattr(FakeEngine, "complete", lambda *_: pytest.fail("paid twice"))
    again = pa.concat_tables(Synthesizer(spec(tmp_path, one))(seeds))
    assert again.equals(first) and sum(first["tokens_out"].to_pylist()) > 0
    with pytest.raises(pytest.fail.Exception):
        list(Synthesizer(spec(tmp_path, synthesis("evolve", *NEW, sampling=Sampling(seed=1))))(seeds))


def test_a_synthesizer_that_died_goes_on_behind_what_it_had_written(tmp_path, monkeypatch):
    one = synthesis("evolve", *NEW)
    seeds = shown(tmp_path, one)
    batches = Synthesizer(spec(tmp_path, one))(seeds)
    list(itertools.islice(batches, 2))  # the empty table and the first batch; then it is killed
    asked = []
    complete = FakeEngine.complete
    monkeypatch.setattr(FakeEngine, "complete", lambda self, *given: asked.extend(given[0]) or complete(self, *given))
    assert pa.concat_tables(Synthesizer(spec(tmp_path, one))(seeds)).num_rows == 3
    assert len(asked) == 1


def test_seed_that_kills_its_engine_is_a_reject_alone(tmp_path):
    one = synthesis("evolve", *NEW)
    seeds = shown(tmp_path, one)
    marked = spec(tmp_path, one)
    ids = []
    worker = Synthesizer(marked)
    record = worker.client.isolator
    worker.client.isolator = lambda keys, *given: ids.extend(keys) or record(keys, *given)
    worker.client.isolator.load = record.load
    poison = next(iter(pa.concat_tables(worker(seeds))["line"].to_pylist()))
    marked.client.ledger.remove()
    for death in range(6):
        dead = {"host": "gone", "pid": 2**22 + os.getpid(), "keys": ids[:1]}
        marked.client.markers.write(f"{death}.json", json.dumps(dead).encode())
    rows = pa.concat_tables(Synthesizer(marked)(seeds)).sort_by("line").to_pylist()
    assert [row["line"] for row in rows if row["reason"] == "synthesis_failed"] == [poison]
    assert len(rows) == 3


def test_written_rows_have_the_columns_of_a_prompt():
    assert set(PROMPT.names) <= set(INGESTED.names)
