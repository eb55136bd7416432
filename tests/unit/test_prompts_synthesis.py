"""Prompts written from seeds: each method, each refusal, genealogy, quotas, and who wins among copies."""

import itertools
import json
import os

import alone
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.prompts import Copies
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.contract.synthesize import Synthesis
from engine.inference.client import ClientSpec
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import TokenUsage, usage_in
from engine.prompts import ablate_fact, copies, quota, split
from engine.prompts.files import Slice
from engine.prompts.formats import Raw
from engine.prompts.methods import ECHO, OPERATORS
from engine.prompts.sources import WORK, RowReject, identify, work
from engine.prompts.synthesizer import PAYEE, Synthesizer, SynthesizerSpec
from engine.rows import PROMPT
from engine.storage.shards import Folder

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
    """Rows of a source, as WORK."""
    columns = {name: name for name in ("text", "layer", "scenario", "language")}
    piece = Slice(f"{side}.jsonl", f"{side}.jsonl", f"{side}.jsonl", number, side, "form", "CC0-1.0", columns)
    kinds = list(layers) or ["core"] * len(texts)
    rows = [
        work(Raw(line, {"text": text, "layer": layer, "scenario": "plain", "language": "en"}, text), piece, max_chars=500)
        for line, (text, layer) in enumerate(zip(texts, kinds, strict=True), 1)
    ]
    return identify(pa.Table.from_pylist(rows, schema=WORK))


def settled(rows):
    signed = copies.sign(rows, COPIES)
    return split.label(rows, alone.fates(signed, COPIES), {})


def spec(tmp_path, one, batch=2, cap=None):
    pool, folders = Pool(batch=batch), (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    client = ClientSpec(one.model, pool, None, *folders, cap=cap, payee=PAYEE) if one.model else None
    return SynthesizerSpec((one,), SPECIALIST, pool, client, numbers={one.title: 2}, max_chars=500)


def written(tmp_path, one, *, seeds=SEEDS, layers=(), wanted=None):
    """What the job does in a round, without Ray: LABELLED of seeds, holdout and all that was written."""
    rows = pa.concat_tables([read(seeds, "train", number=0, layers=layers), read([HELD], "holdout", number=1)])
    labelled = settled(rows)
    wanted = wanted or {(one.title, "core"): 3}
    asked = quota.orders([one], wanted, {}, round=1, able=["form"])
    mine = labelled.filter(pc.equal(labelled["fate"], "prompts"))
    asks = quota.batched(quota.assign(mine, asked, done={}), [one.title], size=2)
    made = pa.concat_tables(Synthesizer(spec(tmp_path, one))(quota.shown(mine, asks)))
    return settled(pa.concat_tables([rows, identify(made.select(WORK.names))]))


def fates(labelled):
    return [row["fate"] for row in children(labelled)]


def children(labelled):
    return labelled.filter(pc.equal(labelled["round"], 1)).sort_by("place").to_pylist()


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
        assert (row["fate"], row["source"], row["line"]) == ("prompts", f"synthesize/{kind}", line)
        parent = seeds[row["parent_id"]]
        assert all(row[name] == parent[name] for name in ("task_unit", "licence", "language", "layer"))
    assert split.pick(labelled, "prompts").num_rows == 6
    assert pc.all(split.pick(labelled, "prompts")["parent_id"].is_valid()).as_py() is False


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


def test_self_instruct_shows_seeds_the_parent_last_and_never_the_holdout(tmp_path, monkeypatch):
    chats, seeds = asked_by(tmp_path, monkeypatch, synthesis("self_instruct", method={"type": "self_instruct", "shown": 2}))
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
    assert fates(written(tmp_path, one)) == [reason] * 3


def test_reply_that_says_what_its_seed_says_is_unchanged(tmp_path):
    assert fates(written(tmp_path, synthesis("evolve", SEEDS[0].upper()), seeds=SEEDS[:1])) == ["synthesis_unchanged"] * 3


def test_label_and_quotes_around_a_reply_are_no_part_of_it(tmp_path):
    reply = f'Here is the rewritten message: "{NEW[0]}"'
    assert children(written(tmp_path, synthesis("evolve", reply)))[0]["text"] == NEW[0]


def test_paraphrase_with_other_numbers_is_refused_and_one_with_the_same_is_kept(tmp_path):
    faithful = "Tom here. May I have a dozen, that is 12, of your desk lamps? For the books: 40127."
    lost = "Tom here. May I have a dozen of your desk lamps? For the books: 40128."
    rows = children(written(tmp_path, synthesis("paraphrase", faithful, lost), seeds=SEEDS[:1], wanted={("paraphrase", "core"): 2}))
    assert [row["fate"] for row in rows] == ["prompts", "synthesis_unfaithful"]
    assert rows[1]["detail"] == "lost 12, lost 40127, invented 40128"


def test_paraphrase_stays_in_its_layer(tmp_path):
    one = synthesis("paraphrase", *NEW)
    assert children(written(tmp_path, one, wanted={("paraphrase", "long_tail"): 2})) == []


def test_near_copies_of_seed_holdout_and_each_other_lose_and_name_whom_they_lost_to(tmp_path):
    held = HELD.replace("Sincerely", "Greetings")
    one = synthesis("self_instruct", SEEDS[0] + " Bye", held, NEW[0], NEW[0])
    labelled = written(tmp_path, one, wanted={("self_instruct", "core"): 4})
    ids = {row["text"]: row["prompt_id"] for row in labelled.to_pylist() if row["fate"] in ("prompts", "holdout")}
    lost = {row["text"]: (row["fate"], row["duplicate_of"]) for row in children(labelled) if row["fate"] != "prompts"}
    assert lost == {
        SEEDS[0] + " Bye": ("near_copy", ids[SEEDS[0]]),
        held: ("holdout_near", ids[HELD]),
        NEW[0]: ("exact_copy", ids[NEW[0]]),
    }


@pytest.mark.parametrize("last", range(20))
def test_seed_wins_against_every_synthetic_copy_whatever_the_ids(last):
    seeds = read(["one two three four five six seven eight"], "train", number=0)
    copy = seeds.to_pylist()[0] | {"round": 1, "place": 5, "text": f"one two three four five six seven eight {last}"}
    copy["messages"] = [{"role": "user", "content": copy["text"]}]
    rows = pa.concat_tables([identify(pa.Table.from_pylist([copy], schema=WORK)), seeds])
    assert settled(rows)["fate"].to_pylist() == ["near_copy", "prompts"]


def test_synthetic_prompt_between_two_seeds_makes_them_no_copies_nor_one_of_the_holdout():
    words = "a1 b2 c3 d4 e5 f6 g7 h8 i9 j10 k11 l12 m13 n14 o15 p16".split()
    first, middle, last = (" ".join(words[start : start + 12]) for start in (0, 2, 4))
    strict = Copies(threshold=0.6, ngram=1)
    rows = pa.concat_tables([read([first], "train", number=0), read([last], "holdout", number=1)])
    one = rows.to_pylist()[0] | {"text": middle, "messages": [{"role": "user", "content": middle}], "round": 1, "place": 9}
    rows = pa.concat_tables([rows, identify(pa.Table.from_pylist([one], schema=WORK))])
    signed = copies.sign(rows, strict)
    found = alone.fates(signed, strict)
    assert [(row["place"], row["fate"]) for row in found.to_pylist()] == [(9, "holdout_near")]


def test_counter_example_by_rule_lacks_one_fact_and_keeps_the_others(tmp_path):
    labelled = written(tmp_path, synthesis("counter_example", model=None), wanted={("counter_example", "failure_mode"): 3})
    rows = children(labelled)
    assert len(rows) == 3
    for row in rows:
        assert (row["fate"], row["layer"]) == ("prompts", "failure_mode")
        gone = row["scenario"].removeprefix("missing_")
        metrics = {gap.field: gap.values for gap in ablate_fact.gaps(row["text"], FORM)}
        parent = next(seed for seed in labelled.to_pylist() if seed["prompt_id"] == row["parent_id"])
        before = {gap.field: gap.values for gap in ablate_fact.gaps(parent["text"], FORM)}
        assert set(before) == {"number", "count"} and metrics == {name: said for name, said in before.items() if name != gone}


def test_counter_example_that_cannot_be_proven_is_refused(tmp_path):
    seeds, one = ["Send 12 lamps under 40127 today", "Thank you all"], synthesis("counter_example", model=None)
    labelled = written(tmp_path, one, seeds=seeds, wanted={("counter_example", "failure_mode"): 2})
    details = {row["detail"] for row in children(labelled)}
    assert fates(labelled) == ["synthesis_unproven"] * 2
    assert "it states no fact whose absence could be proven" in details and len(details) == 2


def test_counter_example_of_a_model_counts_only_if_the_fact_is_gone(tmp_path):
    seed = "We want 12 lamps under 40127 and a van from the yard on Monday"
    wanted = {("counter_example", "failure_mode"): 1}
    replies = {
        "number": "We want 12 lamps, and bring a van to the yard, on a Monday if that can be",
        "count": "We want lamps under 40127 soon, all of them",
        "nothing": seed + " please",
        "both": "We would like some lamps, if you please",
    }
    rows = {}
    for name, said in replies.items():
        (rows[name],) = children(written(tmp_path / name, synthesis("counter_example", said), seeds=[seed], wanted=wanted))
    (kept,) = [name for name, row in rows.items() if row["fate"] == "prompts"]
    assert kept in ("number", "count") and rows[kept]["scenario"] == f"missing_{kept}"
    assert {row["fate"] for name, row in rows.items() if name != kept} == {"synthesis_unproven"}


@pytest.mark.parametrize(
    ("text", "field", "rest"),
    [
        ("Item: lamps\nCount: 12\nNumber: 40127\nBye", "count", "Item: lamps\nNumber: 40127\nBye"),
        ("Hi, 12 lamps please. It is no. 40127. Bye, Jo", "number", "Hi, 12 lamps please. Bye, Jo"),
        ("Could you get us 12 lamps? Book 40127.\nBest, Jo", "number", "Could you get us 12 lamps?\nBest, Jo"),
        ("12 lamps, order 40127, to York", "count", "order 40127, to York"),
    ],
)
def test_cut_takes_sentences_or_else_clauses(text, field, rest):
    gap = next(gap for gap in ablate_fact.gaps(text, FORM) if gap.field == field)
    assert ablate_fact.cut(text, gap, FORM) == rest


def test_free_text_field_is_never_claimed_to_be_missing():
    assert [gap.field for gap in ablate_fact.gaps(SEEDS[0], FORM)] == ["number", "count"]
    with pytest.raises(RowReject, match="synthesis_unproven"):
        ablate_fact.choose("Lamps to York please", FORM, seed=1)


SHARES = {"core": 0.5, "failure_mode": 0.25, "long_tail": 0.25}


@pytest.mark.parametrize(
    ("count", "shares", "now", "given"),
    [
        (4, SHARES, {"core": 10, "failure_mode": 0, "long_tail": 2}, (0, 3, 1)),
        (8, SHARES, {"core": 0, "failure_mode": 0, "long_tail": 0}, (4, 2, 2)),
        (3, {"core": 2, "long_tail": 1}, {"core": 0, "failure_mode": 5, "long_tail": 0}, (2, 0, 1)),
        (5, {}, {"core": 0, "failure_mode": 0, "long_tail": 0}, (2, 2, 1)),
    ],
)
def test_spread_gives_to_the_layers_what_they_lack(count, shares, now, given):
    found = quota.spread(count, shares, now)
    assert sum(found.values()) == count and tuple(found.values()) == given


def test_quotas_follow_shares_seeds_and_what_earlier_methods_shall_add():
    first, second = synthesis("counter_example", model=None, wanted=4), synthesis("evolve", wanted=4)
    third = synthesis("paraphrase", wanted={"long_tail": 2})
    found = quota.quotas([first, second, third], SHARES, {"core": 8, "failure_mode": 0, "long_tail": 0})
    assert found == {("counter_example", "failure_mode"): 4, ("evolve", "long_tail"): 4, ("paraphrase", "long_tail"): 2}


def test_later_rounds_ask_only_for_what_is_missing_and_not_for_ever():
    one = synthesis("evolve", rounds=2)
    wanted = {("evolve", "core"): 5, ("evolve", "long_tail"): 2}
    kept = {("evolve", "core"): 3, ("evolve", "long_tail"): 2}
    second = quota.orders([one], wanted, kept, round=2, able=[])
    assert [(order.layer, order.count) for order in second] == [("core", 2)]
    assert quota.orders([one], wanted, kept, round=3, able=[]) == []


def test_seeds_take_turns_whatever_their_order_and_numbers_go_on():
    parents = pa.table({"prompt_id": list("cabd"), "task_unit": ["form"] * 4, "layer": ["core"] * 3 + ["long_tail"]})
    asked = quota.orders([synthesis("evolve")], {("evolve", "core"): 7}, {}, round=1, able=[])
    asks = quota.assign(parents, asked, done={"evolve": 4})
    assert asks["ask"].to_pylist() == list(range(5, 12))
    counts = sorted(pair["counts"] for pair in pc.value_counts(asks["shown"]).to_pylist())
    assert counts == [2, 2, 3] and "d" not in asks["shown"].to_pylist()
    assert quota.assign(parents.take([3, 1, 2, 0]), asked, done={"evolve": 4}).equals(asks)


def test_seeds_that_are_shown_together_differ_and_are_of_one_task_unit():
    units = ["form", "letter", "form", "form", "letter", "note", "form"]
    parents = pa.table({"prompt_id": list("abcdefg"), "task_unit": units, "layer": ["core"] * 7})
    asked = quota.orders([synthesis("self_instruct")], {("self_instruct", "core"): 14}, {}, round=1, able=[])
    asks = quota.assign(parents, asked, done={}).to_pylist()
    shown = [[row["shown"] for row in rows] for _, rows in itertools.groupby(asks, key=lambda row: row["ask"])]
    unit_of = dict(zip("abcdefg", units, strict=True))
    assert sorted(ids[0] for ids in shown) == sorted("abcdefg" * 2)
    for ids in shown:
        unit = unit_of[ids[0]]
        assert len(set(ids)) == len(ids) == min(3, units.count(unit)) and {unit_of[one] for one in ids} == {unit}


def test_layer_without_a_seed_is_written_from_the_others():
    parents = pa.table({"prompt_id": ["a"], "task_unit": ["form"], "layer": ["core"]})
    asked = quota.orders([synthesis("self_instruct")], {("self_instruct", "long_tail"): 2}, {}, round=1, able=[])
    asks = quota.assign(parents, asked, done={})
    assert asks["wanted"].to_pylist() == ["long_tail"] * 2 and asks["shown"].to_pylist() == ["a", "a"]


def shown(tmp_path, one):
    rows = settled(read(SEEDS, "train", number=0))
    asked = quota.orders([one], {(one.title, "core"): 3}, {}, round=1, able=[])
    return quota.shown(rows, quota.batched(quota.assign(rows, asked, done={}), [one.title], size=2))


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
    assert set(PROMPT.names) <= set(WORK.names)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": {"type": "evolve"}, "model": None}, "model: is needed"),
        ({"method": {"type": "counter_example"}, "wanted": {"core": 1}}, "always of the layer failure_mode"),
        ({"method": {"type": "evolve"}, "sampling": {"n": 2}}, "expected 1"),
        ({"method": {"type": "evolve", "operators": ["shorten"]}}, "operators"),
        ({"method": {"type": "evolve"}, "wanted": 0}, "wanted"),
    ],
)
def test_contract_that_cannot_be_meant_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        Synthesis.model_validate({"wanted": 1, "model": {"type": "fake"}, **change})


def test_ask_that_the_budget_does_not_reach_is_a_reject_with_its_own_reason(tmp_path):
    one = synthesis("evolve", *NEW)
    seeds = shown(tmp_path, one)
    rows = pa.concat_tables(Synthesizer(spec(tmp_path, one, cap=1))(seeds))  # three asks in batches of two
    assert rows["reason"].to_pylist() == ["", "", "synthesis_budget_exhausted"]
    paid = usage_in(Folder(str(tmp_path / "budget")))
    assert paid == {"synthesis": TokenUsage(2, sum(rows["tokens_in"].to_pylist()), sum(rows["tokens_out"].to_pylist()))}
    richer = pa.concat_tables(Synthesizer(spec(tmp_path, one))(seeds))
    assert richer["reason"].to_pylist() == ["", "", ""] and richer["text"].to_pylist()[:2] == rows["text"].to_pylist()[:2]
