"""The most informative answers are uncertain and unlike what is labelled; the forecast narrows with the labels."""

import json

import made_run
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from engine.errors import InputError
from engine.records.calibration import JudgeAgreement
from engine.stats.intervals import estimate, proportion
from jobs.cli import app
from jobs.commands import review_draw
from jobs.commands.review_draw import Draw, draw, forecast


def piece(*rows: tuple[str, str, float | None], pool: str = "train") -> pa.Table:
    names = ("answer_id", "text", "confidence")
    each = [
        dict(zip(names, row, strict=True)) | {"prompt_id": f"p {row[1]}", "pool": pool, "finish_reason": "stop"} for row in rows
    ]
    return pa.Table.from_pylist(each).select(review_draw.READ)


def test_uncertain_answers_come_first_and_their_likes_last() -> None:
    rows = piece(
        ("sure", "wholly other words are here", 0.999),
        ("doubt", "ten red kites for Leeds", 0.5),
        ("twin", "ten red kites for Leeds!", 0.5),
        ("apart", "please cancel my subscription", 0.6),
        ("nobody", "never judged", None),
    )
    found = draw([rows], 3, pool=None, labelled=[], known=set())
    assert found.answer_ids == ["doubt", "apart", "twin"] and found.right == pytest.approx(1.6)


def test_prompts_like_labelled_ones_and_answers_with_a_label_are_left() -> None:
    rows = piece(("near", "ten red kites for Leeds", 0.5), ("far", "please cancel my subscription", 0.8))
    assert draw([rows], 1, pool=None, labelled=["ten red kites for Leeds."], known=set()).answer_ids == ["far"]
    assert draw([rows], 5, pool=None, labelled=[], known={"far"}).answer_ids == ["near"]


def test_order_of_the_pieces_changes_nothing_and_a_prompt_gives_one_answer() -> None:
    one, other = piece(("a", "red kites", 0.5), ("b", "red kites", 0.7)), piece(("c", "blue boats", 0.4))
    found = [draw(pieces, 9, pool=None, labelled=[], known=set()) for pieces in ([one, other], [other, one])]
    assert found[0] == found[1] and found[0].answer_ids == ["a", "c"]


def test_without_a_confidence_nothing_can_be_drawn() -> None:
    with pytest.raises(InputError, match="found no answer with a confidence"):
        draw([piece(("a", "red kites", None))], 1, pool=None, labelled=[], known=set())
    with pytest.raises(InputError, match="another --pool"):
        draw([piece(("a", "red kites", 0.5))], 1, pool="review", labelled=[], known=set())


def test_forecast_narrows_the_intervals_and_keeps_the_numbers() -> None:
    agreement = JudgeAgreement(
        sensitivity=proportion(90, 100),
        specificity=proportion(5, 10),
        auc=estimate(0.9, 0.8, 1.0, 110),
        threshold=0.5,
        base_rate=0.9,
        counts=((5, 10), (5, 90)),
    )
    found = {each.name: each for each in forecast(agreement, Draw([str(n) for n in range(60)], 30.0))}
    assert set(found) == {"sensitivity", "specificity", "auc"}
    for each in found.values():
        assert each.then.value == each.now.value and each.then.high - each.then.low < each.now.high - each.now.low
    assert found["specificity"].now.n == 10 and found["specificity"].then.n == 40
    assert found["sensitivity"].now == agreement.sensitivity


def test_command_draws_and_refuses_what_it_cannot(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(made_run, "ANSWERS", [{**answer, "confidence": 0.6} for answer in made_run.ANSWERS])
    work = made_run.made_run(str(tmp_path / "run"), tmp_path)
    out = tmp_path / "drawn.jsonl"
    words = ["review", "export", str(work.folder), str(out), "--format", "jsonl", "--draw"]
    result = CliRunner().invoke(app, [*words, "2", "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and json.loads(result.stdout)["rows"] == len(out.read_text().splitlines())
    out.unlink()
    result = CliRunner().invoke(app, [*words, "0"], catch_exceptions=False)
    assert result.exit_code == 1 and "--draw: found 0" in result.stderr
