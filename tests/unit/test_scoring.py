"""Quality signals: what is measured, what it costs, what is left null, and who is picked by it."""

import json

import numpy as np
import pytest

from engine.contract.contract import Contract
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.signals import SIGNALS, Complexity, Quality, Signals
from engine.contract.specialist import Specialist
from engine.curation.measure import measured, selection
from engine.curation.select import ORDERS, Eligible, QuotaTracker
from engine.inference.client import ClientSpec
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import TokenBudget, TokenUsage, usage_in
from engine.rows import CANDIDATE, content_id, from_rows
from engine.scoring.scorer import Scorer, ScorerSpec, density, difficulty, rating
from engine.storage.folder import Folder

SPECIALIST = Specialist.model_validate(
    {"goal": "g", "task_units": [{"name": "u", "kind": "extraction", "instruction": "Fill in."}]}
)
ALL = Signals(model=FakeModel(type="fake"), complexity=Complexity(), quality=Quality(), ifd=True, density=True)


class Told(FakeEngine):
    """Gives a share of 0.25 to the first mark and the rest to the last; remembers what it was asked."""

    def choice_probs(self, chats, choices):
        self.__dict__.setdefault("heard", []).extend(chat[-1]["content"] for chat in chats)
        self.tokens_read += 10 * len(chats)
        return [[0.25] + [0.0] * (len(choices) - 2) + [0.75] for _ in chats]


def row(text, answer, pool="train", sample=0):
    ids = {"prompt_id": content_id(text), "answer_id": content_id(text, answer, sample)}
    asked = {"task_unit": "u", "text": text, "messages": [{"role": "user", "content": text}]}
    return ids | asked | {"answer": answer, "finish_reason": "stop" if answer else "length", "pool": pool, "reasons": []}


def measurer(tmp_path, section=ALL, *, cap=None, engine=True):
    folder = Folder(str(tmp_path))
    folders = (folder / name for name in ("signals", "markers", "budget"))
    client = ClientSpec(section.model, Pool(), None, *folders, cap=cap, payee="signals") if section.model else None
    made = Scorer(ScorerSpec(section, SPECIALIST, client))
    if made.client and engine:
        made.client.engine = Told(section.model, Pool(), None)
    return made


ROWS = from_rows(
    [row("two red kites", "red kites"), row("two red kites", "red boats"), row("a b", "c", "contrast"), row("d", "")], CANDIDATE
)


def test_every_signal_is_a_column_and_what_is_out_of_the_pools_stays_null(tmp_path):
    found = measurer(tmp_path)(ROWS)
    assert found.schema.equals(CANDIDATE)
    assert found["complexity"].to_pylist() == found["quality"].to_pylist() == [4.75, 4.75, None, None]  # 1 * 0.25 + 6 * 0.75
    assert found["ifd"].to_pylist() == [
        0.0,
        0.5,
        None,
        None,
    ]  # words that the prompt has not said
    assert found["density"].to_pylist()[2:] == [None, None] and all(0 < value <= 1 for value in found["density"].to_pylist()[:2])
    assert found.drop_columns(list(SIGNALS)) == ROWS.drop_columns(list(SIGNALS))


def test_what_is_measured_of_a_prompt_is_asked_once_for_its_answers(tmp_path):
    made = measurer(tmp_path, Signals(model=FakeModel(type="fake"), complexity=Complexity(), quality=Quality()))
    made(ROWS)
    heard = made.client.engine.heard
    assert sum("How complex" in one for one in heard) == 1 and sum("How good" in one for one in heard) == 2


def test_a_number_in_the_ledger_is_not_paid_again(tmp_path):
    first = measurer(tmp_path)(ROWS)
    paid = usage_in(Folder(str(tmp_path)) / "budget")
    again = measurer(tmp_path, engine=False)  # loads no model
    assert again(ROWS) == first and again.client.engine is None
    assert usage_in(Folder(str(tmp_path)) / "budget") == paid and paid["signals"].tokens > 0


def test_a_spent_budget_leaves_null(tmp_path):
    TokenBudget(Folder(str(tmp_path)) / "budget", None).add("judge", TokenUsage(1, 100, 0))
    found = measurer(tmp_path, cap=100, engine=False)(ROWS)
    assert found["quality"].null_count == len(ROWS) and found["density"].null_count == 2


def test_density_alone_needs_no_model(tmp_path):
    found = measurer(tmp_path, Signals(density=True))(ROWS)
    assert found["density"].null_count == 2 and found["ifd"].null_count == len(ROWS)


def test_density_falls_as_text_repeats_itself():
    said = "Please send forty oak shelves to the shop in Cork before Friday."
    assert density(said * 20, "") < 0.2 < density(said, "") <= 1 and density("", "") == 1


def test_difficulty_is_one_where_the_prompt_does_not_help():
    rows = [{"messages": [{"role": "user", "content": "x"}], "task_unit": "u", "answer": answer} for answer in ("far off", "x", "")]
    found = difficulty(FakeEngine(FakeModel(type="fake"), Pool(), None), rows, systems={"u": ""})
    assert found == [1.0, 0.0, None]


def test_unreadable_mark_is_null():
    class Mute(FakeEngine):
        def choice_probs(self, chats, choices):
            return [None for _ in chats]

    assert rating(Mute(FakeModel(type="fake"), Pool(), None), [row("a", "b")], question=Quality()) == [None]


@pytest.mark.parametrize(
    "section",
    [{"quality": {}}, {"ifd": True}, {"ifd": True, "model": {"type": "endpoint", "url": "http://h/v1", "path": "m"}}],
)
def test_paid_signals_need_a_model_that_can_give_them(section):
    with pytest.raises(ValueError, match="model"):
        Signals.model_validate(section)


def test_an_order_of_picking_needs_its_signals(tmp_path):
    import yaml
    from made_run import YAML

    raw = yaml.safe_load(YAML)
    raw["curation"] = {"pick": {"order": "deita", "count": 3}}
    raw["judges"] = {"signals": {"model": {"type": "fake"}, "quality": {}}}
    with pytest.raises(ValueError, match=r"judges\.signals\.complexity"):
        Contract.model_validate(raw)
    raw["judges"]["signals"]["complexity"] = {}
    assert Contract.model_validate(raw).curation.pick.order == "deita"


def eligible(**signals):
    count = len(next(iter(signals.values())))
    given = {name: np.array(values, np.float32) for name, values in signals.items()}
    sides = {side: ["v"] * count for side in ("task_unit", "layer", "difficulty", "cluster")}
    return Eligible(np.eye(count, dtype=np.float32), np.arange(count), np.zeros(count, int), np.zeros(count), sides, given)


@pytest.mark.parametrize(
    ("order", "signals", "first"),
    [
        ("deita", {"complexity": [1, 6, 3, np.nan], "quality": [6, 2, 5, 6]}, [2, 1]),  # 6, 12, 15, unknown
        ("ifd", {"ifd": [1.2, 0.4, 0.9, np.nan]}, [2, 1]),
        ("dense", {"density": [0.2, np.nan, 0.7, 0.9]}, [3, 2]),
    ],
)
def test_orders_by_signal_take_the_highest_and_the_unknown_last(order, signals, first):
    from engine.contract.curation import Pick

    rows = eligible(**signals)

    def picked(count):
        return np.flatnonzero(ORDERS[order](rows, QuotaTracker(rows.strata, Pick(count=count), rows=4)))

    assert sorted(picked(2)) == sorted(first)
    unknown = [index for index in range(4) if any(np.isnan(values[index]) for values in signals.values())]
    assert not set(picked(4 - len(unknown))) & set(unknown)


def test_report_says_the_mean_of_each_signal_before_and_after_picking():
    rows = eligible(quality=[2, 4, np.nan], ifd=[np.nan] * 3)
    found = selection([measured(rows, np.array([False, True, True]), rows.vectors.mean(axis=0), rows.vectors)])
    assert found.signals.model_dump() == {"before": {"quality": 3.0}, "after": {"quality": 4.0}}
    json.dumps(found.model_dump(), allow_nan=False)
