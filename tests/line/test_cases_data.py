"""Cases of files, columns, personal data, checks and students: see test_cases.py."""

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tests.line.cases_world import HELD, TEXTS, Desk, accepted, endpoint, refused, schema_of
from tests.line.data_world import mails, write_parquet
from tests.refusing_server import ANSWER, Server

pytestmark = [pytest.mark.cases, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


def test_a_link_of_the_hugging_face_cache_has_the_ending_of_its_name(desk: Desk) -> None:
    blob, link = desk.folder / "hub/blobs/9b1d", desk.folder / "hub/snapshots/0f3c/train-00000.parquet"
    blob.parent.mkdir(parents=True)
    link.parent.mkdir(parents=True)
    write_parquet(blob, [{"input": text} for text in TEXTS])
    link.symlink_to(blob)
    assert len(desk.prompts("hub/snapshots/0f3c/train-00000.parquet")) == 10


def test_a_folder_with_brackets_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "mails [v2]").mkdir()
    desk = Desk(tmp_path / "mails [v2]")
    assert len(desk.prompts(TEXTS)) == 10
    desk.source([{"text": text} for text in [*TEXTS, TEXTS[0]]], "data [1]/part.jsonl")
    assert len(desk.dedup("data [1]")[1]) == 10


def test_hidden_names_below_a_folder_are_no_data(desk: Desk) -> None:
    desk.source(TEXTS[:6], "folder/train.jsonl")
    desk.source(TEXTS[6:], "folder/.ipynb_checkpoints/train-checkpoint.jsonl")
    desk.source([b"\x00\x05\x16\x07"], "folder/._train.jsonl")
    desk.source(TEXTS[6:], "folder/_old/train.jsonl")
    assert len(desk.prompts("folder")) == 6 and not desk.rows("prompts", "rejects")


def test_a_download_that_was_cut_is_named(desk: Desk) -> None:
    whole = gzip.compress("".join(json.dumps({"input": text}) + "\n" for text in mails(400)).encode())
    (desk.folder / "train.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    desk.contract("train.jsonl.gz")
    refused(desk.run(), "InputError", "train.jsonl.gz", "line")


def test_folders_of_the_form_key_value_are_columns(desk: Desk) -> None:
    for language, texts in (("de", TEXTS[:4]), ("en", TEXTS[4:])):
        folder = desk.folder / f"hive/language={language}/layer=long_tail"
        folder.mkdir(parents=True)
        write_parquet(folder / "part-0.parquet", [{"text": text} for text in texts])
    rows = desk.prompts("hive", {"text": "text", "language": "language", "layer": "layer"})
    assert sorted((row["language"], row["layer"]) for row in rows) == [("de", "long_tail")] * 4 + [("en", "long_tail")] * 6


def test_a_mapped_column_that_no_row_has_is_named(desk: Desk) -> None:
    desk.contract([{"input": text, "layer": "core"} for text in TEXTS], {"text": "input", "layer": "tier"})
    refused(desk.run(), "InputError", "tier")


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_nan_is_no_id(desk: Desk, name: str) -> None:
    rows: list[Any] = [{"input": text, "id": float(number) if number % 2 else math.nan} for number, text in enumerate(TEXTS)]
    if name.endswith("parquet"):
        write_parquet(desk.folder / name, rows)
    else:
        desk.source(rows, name)
    assert len(desk.prompts(name, {"text": "input", "id": "id"})) == 10


def test_a_quote_that_never_ends_is_a_reject_and_takes_no_other_row(desk: Desk) -> None:
    texts = [text.replace(",", "") for text in mails(20)]
    rows = [[str(number), text] for number, text in enumerate(texts)]
    with open(desk.folder / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows([["number", "input"], *rows[:7]])
        file.write(f'7,"{texts[7]}\n')
        csv.writer(file).writerows(rows[8:])
    kept = desk.prompts("train.csv")
    assert {row["text"] for row in kept} == {*texts} - {texts[7]}
    assert [row["line"] for row in desk.rows("prompts", "rejects")] == [9]


def test_a_reference_from_parquet_is_that_from_jsonl(desk: Desk) -> None:
    held = [{"input": HELD[0]["input"], "reference": {"name": "lamp"}}]
    held += [{"input": "Which of the chairs did you mean?", "reference": {"name": "chair", "colour": "red"}}]
    desk.source(held, "held.jsonl")
    write_parquet(desk.folder / "held.parquet", held)
    output = schema_of(name={"type": "string"})
    output["json_schema"] |= {"additionalProperties": False}
    output["json_schema"]["properties"] |= {"colour": {"type": "string"}}
    for name in ("held.jsonl", "held.parquet"):
        desk.contract(TEXTS, unit={"kind": "extraction", "output": output}, holdout={"path": name})
        accepted(desk.run(run=f"run-{name}"))
        found = [json.loads(row["reference"]) for row in desk.rows("prompts", "holdout", run=f"run-{name}")]
        assert sorted(found, key=len) == [row["reference"] for row in held]


def test_shards_that_write_a_column_differently_are_one_data_set(desk: Desk) -> None:
    (desk.folder / "in").mkdir()
    texts = pa.array(TEXTS[:5]), pa.array(TEXTS[5:])
    first = {"text": texts[0], "n": pa.array(range(5)), "meta": pa.nulls(5), "own": pa.array(["x"] * 5)}
    forms = {
        "large": {"text": texts[1].cast(pa.large_string()), "n": pa.array([0.5] * 5), "meta": pa.array(["m"] * 5)},
        "other": {"meta": pa.array(["m"] * 3), "n": pa.array(range(3)), "text": pa.array(mails(13)[10:]).dictionary_encode()},
    }
    for name, columns in {"first": first, **forms}.items():
        pq.write_table(pa.table(columns), desk.folder / "in" / f"{name}.parquet")
    _, rows = desk.dedup("in")
    assert {row["text"] for row in rows} == {*mails(13)}
    assert [row["own"] for row in rows if row["n"] == 0.5] == [None] * 5 and {row["meta"] for row in rows} == {None, "m"}


def test_a_bad_line_and_ids_of_two_types_stop_no_dedup(desk: Desk) -> None:
    rows = [{"id": number if number % 2 else f"n{number}", "text": text} for number, text in enumerate(TEXTS)]
    desk.source([*rows[:5], b"{no json", *rows[5:]])
    _, kept = desk.dedup("train.jsonl")
    assert len(kept) == 10


def test_what_dedup_wrote_is_a_folder_of_data(desk: Desk) -> None:
    desk.source([{"text": text} for text in [*TEXTS, TEXTS[0]]])
    desk.dedup("train.jsonl")
    assert len(desk.dedup("out", "again")[1]) == 10
    assert len(desk.prompts("out", {"text": "text"})) == 10
    assert duckdb.sql(f"select count(text) from '{desk.folder}/out/*.parquet'").fetchall() == [(10,)]
    assert pa.dataset.dataset(desk.folder / "out").count_rows() == 10


def test_numbers_that_are_no_phones_or_addresses_stay(desk: Desk) -> None:
    stay = ["Order 2023-10-0456 is still on its way to us.", "I paid your invoice on 05.06.2024 by transfer."]
    stay += ["Our router runs firmware version 2.4.6.8 since Monday.", "What happened to ticket 212-555-0187 of last week?"]
    stay += ["The meeting on 2024-03-18 at 11:45 is cancelled."]
    phones = ["Please call me back on +44 20 7946 0958 after six.", "You reach my colleague at (202) 555-0143 all day."]
    rows = desk.prompts([*stay, *phones], redact=["email", "phone", "card", "iban", "ip"])
    assert {row["text"]: row["redacted"] for row in rows if not row["redacted"]} == {text: [] for text in stay}
    assert [row["redacted"] for row in rows if row["redacted"]] == [["phone"]] * 2


NUMERIC = {"type": "numeric", "reference": {}}
CHECKS: list[dict[str, Any]] = [
    {"name": "math", "type": "math"},
    {"name": "plain", **NUMERIC},
    {"name": "solution", "type": "numeric", "reference": {"extract": "hash_marks"}},
    {"name": "torque", "unit": "N*m", **NUMERIC},
    {"name": "area", "unit": "m**2", **NUMERIC},
    {"name": "mass", "unit": "kg", **NUMERIC},
    {"name": "rate", "unit": "1/min", **NUMERIC},
    {"name": "way", "unit": "km", **NUMERIC},
]
EQUAL = [  # check, answer, reference: equal
    *(("math", text, text) for text in ("C", "x<4", "[2,3]", "even", "12:45")),
    ("math", "3e4", "30000"), ("math", "4.5e-2", "0.045"), ("math", "$0.\\overline{6}$", "$\\frac{2}{3}$"),
    ("math", "\u22127", "-7"), ("math", "2^{8}", "256"), ("math", "4{,}321", "4321"), ("math", "\\boxed{C}", "C"),
    ("plain", "\u22127", "-7"), ("plain", "30%", "0.3"), ("solution", "42", "Half of 84 is <<84/2=42>>42.\n#### 42"),
    ("torque", "7 Nm", "7 N*m"), ("area", "6 m2", "6 m^2"), ("mass", "4 kgs", "4 kg"), ("rate", "70 1/min", "70 1/min"),
    ("way", "14 500 km", "14500 km"),
]  # fmt: skip
OTHER = [("math", "3e4", "3"), ("math", "2 1/4", "2"), ("math", "D", "C"), ("plain", "30%", "30"), ("way", "14 500 km", "14 km")]


def test_references_and_numbers_as_people_write_them(desk: Desk, server: Server) -> None:
    texts, pairs = mails(len(EQUAL) + len(OTHER)), [*EQUAL, *OTHER]
    rows = [{"input": text, "reference": pair[2]} for text, pair in zip(texts, pairs, strict=True)]
    server.by_prompt = {text: reply(pair[1]) for text, pair in zip(texts, pairs, strict=True)}
    found = desk.answers(rows, columns={"text": "input", "reference": "reference"}, checks=CHECKS, model=endpoint(server))
    checks = {row["text"]: {check["check"]: check["passed"] for check in row["checks"]} for row in found}
    passed = [pair for text, pair in zip(texts, pairs, strict=True) if checks[text][pair[0]]]
    assert passed == EQUAL


def reply(text: str) -> dict[str, Any]:
    """Return the body of a server's answer."""
    return {**ANSWER, "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def test_a_language_that_a_short_prompt_does_not_show_fails_no_answer(desk: Desk, server: Server) -> None:
    answers = {
        "Write a limerick": "There was an old man with a beard, who said that it was just as he feared.",
        "Explain TCP.": "The transmission control protocol delivers bytes in order and sends lost ones again.",
        "Gracias": "De nada, estoy aqu\u00ed para ayudarle con cualquier otra pregunta sobre su pedido.",
    }
    server.by_prompt = {prompt: reply(answer) for prompt, answer in answers.items()}
    rows = desk.answers([*answers], checks=[{"type": "language"}], model=endpoint(server))
    assert {row["text"]: row["pool"] for row in rows} == dict.fromkeys(answers, "train")


@pytest.mark.parametrize("family", ["SmolLM3", "Qwen3_5Text"])
def test_a_configuration_by_layers_is_cut_like_the_layers(desk: Desk, family: str) -> None:
    import transformers

    from jobs.places import models_home

    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{models_home()}/smollm2-135m-instruct")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes, **marks)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(desk.folder / "big")
    tokenizer.save_pretrained(desk.folder / "big")
    layers, source = (0, 1, 3), json.loads((desk.folder / "big" / "config.json").read_text())
    init = {"prune": {"source": "big", "layers": layers}}
    student = {"name": "s", "init": init, "batch_size": 4, "micro_batch_size": 4, "epochs": 1, "max_tokens": 256}
    desk.contract(TEXTS, students=[student], curation={"pick": {"clusters": 2, "validation": 0.2}})
    accepted(desk.check())
    accepted(desk.run("students/s"))
    [path] = (desk.folder / "run" / "students").rglob("config.json")
    cut = json.loads(path.read_text())
    lists = {name: value for name, value in source.items() if isinstance(value, list) and len(value) == 8}
    assert lists and {name: cut[name] for name in lists} == {name: [value[at] for at in layers] for name, value in lists.items()}
