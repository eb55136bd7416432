"""The charts show the numbers."""

import math
import re

import pytest
import sample_report

from engine.records.estimate import Estimate, ReliabilityBin
from engine.records.report import Metrics, ModelEntry
from engine.report import plots
from engine.report.draw import avoid_overlap, linear, logarithmic, round_ticks
from engine.report.funnel import Link, Node
from engine.report.page_data import LossPoint
from engine.report.sankey import sankey


def model(name="s", role="student", value=0.8, **more):
    exact_match = Estimate(value=value, low=0.7, high=0.9, n=120)
    return ModelEntry(name=name, role=role, metrics=Metrics(exact_match=exact_match), **more)


@pytest.mark.parametrize(("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 37, [0, 10, 20, 30]), (3, 3, [3])])
def test_ticks_are_round_and_inside(low, high, ticks):
    assert round_ticks(low, high) == ticks


def test_logarithmic_axis_spaces_factors_equally():
    axis = logarithmic(1, 1000, title="", write=str)
    assert axis.place(10) - axis.place(1) == pytest.approx(axis.place(1000) - axis.place(100))
    assert 0 < axis.place(1) < axis.place(1000) < 1
    assert [value for value, _ in axis.ticks] == pytest.approx([1, 10, 100, 1000])


def test_logarithmic_axis_of_one_value_has_width():
    axis = logarithmic(5, 5, title="", write=str)
    assert axis.place(5) == pytest.approx(0.5) and axis.ticks


def test_labels_that_would_overlap_are_moved_apart():
    placed = avoid_overlap([100, 101, 102, 20], 15, 8, 200)
    assert placed[3] == 20 and placed[0] < placed[1] < placed[2]
    assert min(b - a for a, b in zip(sorted(placed), sorted(placed)[1:], strict=False)) >= 15


def test_position_of_a_dot_is_its_value():
    svg = plots.dots([model(value=0.8)], "exact_match", low=0.6)
    assert 'x="50.00%"' in svg
    assert linear(0.6, 1).place(0.8) == pytest.approx(0.5)


def test_model_without_the_metric_is_left_out():
    svg = plots.dots([model("s"), ModelEntry(name="gone", role="student")], "exact_match")
    assert "gone" not in svg and plots.dots([ModelEntry(name="x", role="student")], "exact_match") == ""


def test_scatter_leaves_out_models_without_a_size():
    svg = plots.scatter(
        [model("s", parameters=10), model("rules", "baseline", parameters=None)],
        lambda model: model.parameters,
        title="size",
        write=str,
    )
    assert ">s</text>" in svg and "rules" not in svg


def test_names_in_charts_are_escaped():
    svg = plots.scatter([model("<script>", parameters=10)], lambda model: model.parameters, title="size", write=str)
    assert "<script>" not in svg and "&lt;script&gt;" in svg


def test_curve_skips_losses_that_are_no_number():
    steps = [LossPoint(n, "train", loss, n * 10) for n, loss in enumerate([2.0, math.nan, math.inf, None, 1.0])]
    svg = plots.curve(steps, losses=(1.0, 2.0), tokens=40, tone="student-0")
    assert "nan" not in svg.lower() and "inf" not in svg.lower() and svg.count("<circle") == 2


def test_reliability_leaves_out_empty_bins():
    bins = [ReliabilityBin(), ReliabilityBin(n=4, confidence=0.25, accuracy=0.5)]
    svg = plots.reliability(bins, tone="student-0")
    assert svg.count("bubble") == 1 and 'cx="25.00%" cy="95.0"' in svg
    assert plots.reliability(bins[:1], tone="student-0") == ""


def test_histogram_bars_are_as_tall_as_their_rows():
    bins = {"train": [0] * 19 + [30], "hard": [0] * 19 + [10]}
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', plots.histogram(bins, ["train", "hard"]))]
    assert heights[0] == pytest.approx(3 * heights[1])


def test_bands_of_the_flow_are_as_thick_as_their_rows():
    nodes = [Node("a", 0, "a", 30, 30, "ink", ""), Node("b", 1, "b", 20, 20, "ink", ""), Node("c", 1, "c", 10, 10, "out", "")]
    svg = sankey(nodes, [Link("a", "b", 20, "ink"), Link("a", "c", 10, "out")])
    starts = [float(y) for y in re.findall(r'd="M[\d.]+,([\d.]+)C', svg)]
    thick = [float(b) - float(a) for a, b in re.findall(r" [\d.]+,([\d.]+)V([\d.]+)C", svg)]
    assert thick[0] == pytest.approx(2 * thick[1], abs=0.2)
    assert starts == [0, pytest.approx(thick[0], abs=0.2)]  # bands that leave a box lie side by side


def test_students_keep_their_colour_in_every_chart():
    models = [ModelEntry(name=n, role=r) for n, (r, *_) in sample_report.MODELS.items()]
    assert plots.tones(models) == {
        "smol": "teacher",
        "s": "student-0",
        "xs": "student-1",
        "rules": "baseline",
        "nearest": "baseline",
    }
