"""`rayleigh watch --page`: rates with their bands, alarms with their rows, the labels' estimate, in one file that needs nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_serving_watch import D2, compared, row, stream, write

from engine.errors import InputError
from engine.records.watch import WatchView
from engine.rows import from_rows
from engine.serving.rates import rates
from engine.serving.record_files import SHADOW_FOLDER, RecordFiles
from engine.serving.schemas import SHADOW
from jobs.commands.watch import Order, watch

HOSTILE = "<script>alert(1)</script>"


def records(folder: Path, draws: np.random.Generator) -> Path:
    """Records of two deployments; of the second the share of nulls rises."""
    rows = [row(number, deployment=D2) for number in range(50)]
    rows += stream(draws, 100, 400) + stream(draws, 600, 300, nulls=0.6) + [row(990, route=HOSTILE), row(991, status=429)]
    write(folder, rows)
    shadows = RecordFiles(folder / SHADOW_FOLDER)
    shadows.append(from_rows([compared(number, bool(draws.random() < 0.9)) for number in range(100, 200)], SHADOW))
    return folder


def test_page_has_the_rates_with_bands_the_alarms_with_rows_and_the_labels(tmp_path: Path) -> None:
    folder, page, labels = records(tmp_path / "kept", np.random.default_rng(0)), tmp_path / "out.html", tmp_path / "labels"
    views: list[WatchView] = []
    watch(str(folder), Order(first=300, page=str(page)), views.append, once=True)
    [alarm] = views[0].monitors[0].alarms
    text = page.read_text()
    assert "1 alarm: nulls.product" in text and "no labels yet" in text
    assert set(re.findall(r'aria-label="([\w.]+) over time"', text)) == {
        "abstention", "agreement", "confidence", "errors", "fallback", "nulls.product", "nulls.quantity",
    }  # fmt: skip
    assert text.count('class="band student-0"') == 7 and 'class="limit"' in text
    assert all(each[:12] in text for each in alarm.rows[-5:])
    assert "<script" not in text and "&lt;script&gt;" in text  # what is recorded is text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)

    drawn = [{"request_id": f"{number:032x}", "right": number % 4 > 0} for number in range(100, 900)]
    labels.write_text("".join(json.dumps(each) + "\n" for each in drawn))
    watch(str(folder), Order(first=300, page=str(page), labels=str(labels)), views.append, once=True)
    found = views[-1].accuracy
    assert found and found.accuracy and f"{found.labels} labels" in page.read_text()
    assert f"{found.accuracy.low:.3f} to {found.accuracy.high:.3f}" in page.read_text()


def test_page_before_anything_was_answered_and_while_a_baseline_is_gathered(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    write(tmp_path / "none", [row(1, status=429, deployment="", route="")])
    watch(str(tmp_path / "none"), Order(page=str(page)), lambda view: None, once=True)
    assert "No request was answered yet" in page.read_text()
    write(tmp_path / "few", [row(number) for number in range(3)])
    watch(str(tmp_path / "few"), Order(page=str(page)), lambda view: None, once=True)
    assert "3 requests so far" in page.read_text()


def test_one_request_is_in_the_middle_of_its_chart(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    write(tmp_path / "one", [row(1)])
    watch(str(tmp_path / "one"), Order(page=str(page)), lambda view: None, once=True)
    places = [float(each) for each in re.findall(r'class="tick" x="(-?[\d.]+)%', page.read_text())]
    assert places and all(0 <= place <= 100 for place in places)


def test_page_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    write(tmp_path / "few", [row(1)])
    with pytest.raises(InputError, match=r"--page .*nowhere.*cannot be written"):
        watch(str(tmp_path / "few"), Order(page=str(tmp_path / "nowhere" / "out.html")), lambda view: None, once=True)


def test_band_leaves_out_the_rate_at_any_point_in_no_more_than_delta_of_streams() -> None:
    draws, broken, delta = np.random.default_rng(1), 0, 0.1
    for _ in range(25):
        values = draws.beta(8, 2, 200)  # a confidence: of mean 0.8, and no share
        rows = [{"time": float(n), "status": 200, "confidence": value, "abstained": False, "route": "student", "answer": None}
                for n, value in enumerate(values)]  # fmt: skip
        lines = {line.signal: line.points for line in rates(rows, [], delta)}
        broken += any(not point.low <= 0.8 <= point.high for point in lines["confidence"])
        assert lines["confidence"][-1].rows == 200 and lines["confidence"][-1].mean == pytest.approx(values.mean(), abs=1e-5)
    assert broken <= 25 * delta
