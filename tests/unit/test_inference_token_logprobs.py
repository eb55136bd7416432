"""Where the tokens of a text end, from what an engine says of them; and the tokens of a part of the text."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher as TeacherSection
from engine.inference.client import ClientSpec
from engine.inference.engine import Completion
from engine.inference.fake import FakeEngine
from engine.inference.scoring import Distribution, Unscored
from engine.inference.token_logprobs import of_distribution, of_pieces, of_sample, whole_characters, with_ends, within
from engine.rows import ANSWER, PROMPT, TOKEN_LOGPROBS, from_rows
from engine.storage.folder import Folder
from engine.storage.migrations import migrate
from engine.teachers.teacher import Teacher, TeacherSpec

TEXT = '{"a":"7"}'
PIECES = [('{"', -0.1), ("a", -0.25), ('":"', -0.5), ("7", -1.0), ('"}', -0.00001)]


def test_ends_are_those_of_the_decoded_tokens_and_special_tokens_end_with_the_text() -> None:
    found = of_pieces(TEXT, [*PIECES, ("<|im_end|>", -0.2)])
    assert [entry["end"] for entry in found] == [2, 3, 6, 7, 9, 9]
    assert [entry["logprob"] for entry in found] == [-0.1, -0.25, -0.5, -1.0, -0.0, -0.2]


def test_ends_are_unknown_where_the_tokens_are_not_the_text() -> None:
    found = of_pieces("\u00e4b", [("\ufffd", -1.0), ("\ufffd", -2.0), ("b", -3.0)])
    assert [entry["end"] for entry in found] == [-1, -1, -1] and found[2]["logprob"] == -3.0


def test_sample_without_logprobs_has_none() -> None:
    flat = SimpleNamespace(logprobs=[-0.5, -0.25])
    assert of_sample("x", ["x", "</s>"], flat) == [{"end": 1, "logprob": -0.5}, {"end": 1, "logprob": -0.25}]
    assert of_sample("x", (), []) is None and of_sample("x", (), None) is None


def test_a_character_of_several_tokens_ends_with_the_last_of_them() -> None:
    written = [b"a", b"\xe6\xbc", b"\xa2", b"b\xc3", b"\xa4", b"", b"c"]

    def decode(ids: list[int]) -> str:
        return b"".join(written[at] for at in ids).decode(errors="replace")

    ids = list(range(len(written)))
    found = whole_characters([decode([at]) for at in ids], ids, decode)
    assert found == ["a", "", "\u6f22", "", "b\u00e4", "", "c"]
    cut = whole_characters([decode([at]) for at in ids[:2]], ids[:2], decode)
    assert cut == ["a", ""], "the text of an answer that was cut within a character"


def test_bytes_that_are_no_character_are_decoded_a_few_at_a_time() -> None:
    longest = 0

    def decode(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "\ufffd" * len(ids)

    assert "".join(whole_characters(["\ufffd"] * 9, range(9), decode)) == "\ufffd" * 8 and longest == 4


def test_ends_of_a_scored_text_come_from_the_tokenizer() -> None:
    empty = np.zeros((3, 1), np.float32)
    scored = Distribution(np.array([1, 2, 0], np.int32), empty.astype(np.int32), empty, np.array([-1, -2, -3.0]), empty[:, 0], 3)

    def tokenizer(ids: list[int]) -> SimpleNamespace:
        encode = lambda text, **options: {"input_ids": ids, "offset_mapping": [(0, 2), (2, 4)]}  # noqa: E731
        return type("T", (), {"is_fast": True, "__call__": staticmethod(encode)})()

    assert [entry["end"] for entry in of_distribution(with_ends(scored, tokenizer([1, 2]), "abcd"))] == [2, 4, 4]
    assert [entry["end"] for entry in of_distribution(with_ends(scored, tokenizer([1, 9]), "abcd"))] == [-1, -1, -1]
    refused = Unscored("too_long", "")
    assert with_ends(refused, tokenizer([1, 2]), "abcd") is refused


@pytest.mark.parametrize(
    ("text", "part", "ends"),
    [(f"so: {TEXT} ", TEXT, [1, 9]), (TEXT, TEXT, [3, 5, 13, 14]), (TEXT, "elsewhere", None), ("", "", [3, 5, 13, 14])],
)
def test_tokens_of_a_part_count_from_its_start(text: str, part: str, ends: list[int] | None) -> None:
    entries = [{"end": end, "logprob": -1.0} for end in (3, 5, 13, 14)]
    found = within(entries, text, part)
    assert (found and [entry["end"] for entry in found]) == (ends if text != f"so: {TEXT} " else [1, 9, 9])
    assert within(None, text, part) is None


def test_answer_keeps_the_tokens_that_are_left_of_it(tmp_path, monkeypatch) -> None:
    text = f"Here it is: {TEXT}"
    tokens = of_pieces(text, [("Here it is: ", -4.0), *PIECES, ("<end>", -0.2)])
    complete = lambda self, requests, sampling: [Completion(text, "stop", 1, 7, -6.0, token_logprobs=tokens)]  # noqa: E731
    monkeypatch.setattr(FakeEngine, "complete", complete)
    schema = {"json_schema": {"type": "object"}}
    unit = {"name": "u", "kind": "extraction", "instruction": "Fill in.", "output": schema, "lenient_json": True}
    specialist = Specialist.model_validate({"goal": "g", "task_units": [unit]})
    client = ClientSpec(FakeModel(type="fake"), Pool(), None, *(Folder(str(tmp_path / name)) for name in ("l", "m", "b")))
    section = TeacherSection.model_validate({"name": "t", "model": {"type": "fake"}, "structured": False})
    row = {"prompt_id": "aa", "task_unit": "u", "text": "t", "messages": [{"role": "user", "content": "t"}], "layer": "core"}
    for _ in range(2):  # the second time from the ledger
        [answer] = Teacher(TeacherSpec(section, specialist, client))(from_rows([row], PROMPT)).to_pylist()
        assert answer["answer"] == TEXT and [token["end"] for token in answer["token_logprobs"]] == [2, 3, 6, 7, 9, 9]


def test_older_answers_have_none() -> None:
    older = pa.table({"answer_id": ["a"], "logprob": [-1.0]})
    assert migrate(older, 5)["token_logprobs"].to_pylist() == [None]
    assert ANSWER.field("token_logprobs").type == TOKEN_LOGPROBS
