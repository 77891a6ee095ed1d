"""Tests of codet5p_jax.evaluation.charts."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from codet5p_jax.evaluation.charts import (
    HEIGHT,
    MAX_POINTS,
    WIDTH,
    Line,
    Scale,
    bar,
    line_chart,
    tick_labels,
    ticks,
)


def _chart(lines, **changes):
    labels = {"title": "Loss", "x_label": "step", "y_label": "loss (nats)", **changes}
    return ET.fromstring(line_chart(lines, **labels))


def _numbers(figure):
    for element in figure.iter():
        for name in ("x", "x1", "x2", "cx"):
            if name in element.attrib:
                yield float(element.attrib[name]), WIDTH
        for name in ("y", "y1", "y2", "cy"):
            if name in element.attrib:
                yield float(element.attrib[name]), HEIGHT


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (2.0, 2.0, [1.8, 1.9, 2.0, 2.1, 2.2]),
        (-3, 2, [-3, -2, -1, 0, 1, 2]),
        (0, 2e-4, [0, 5e-5, 1e-4, 1.5e-4, 2e-4]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values, labels",
    [
        ([0, 5000, 10_000, 12_500], ["0", "5k", "10k", "12.5k"]),
        ([0, 2e-4, 1e-3], ["0", "2e-4", "1e-3"]),
        ([0, 500, 1000], ["0", "500", "1,000"]),
        ([0, 2.5e6], ["0", "2.5M"]),
        ([4, 4.5, 5], ["4", "4.5", "5"]),
    ],
)
def test_tick_labels_of_an_axis_share_one_unit(values, labels):
    assert tick_labels(values) == labels


def test_scale_maps_its_ends():
    scale = Scale(low=2, high=4, start=100, end=0)
    assert (scale(2), scale(3), scale(4)) == (100, 50, 0)


def test_chart_has_title_axis_labels_with_units_and_a_legend():
    figure = _chart(
        [Line(label="train", x=[1, 2], y=[3.0, 2.0]), Line(label="eval", x=[2], y=[2.5])]
    )
    text = " ".join(figure.itertext())
    for expected in ("Loss", "step", "loss (nats)", "train", "eval"):
        assert expected in text


@pytest.mark.parametrize(
    "x, y",
    [
        ([1, 2, 3], [1.0, 5.0, 2.0]),
        ([7], [3.0]),
        ([1, 2], [0.0, 0.0]),
        ([1, 1_000_000], [-1e9, 1e9]),
        (range(5000), [1 / (1 + k) for k in range(5000)]),
    ],
)
def test_everything_lies_inside_the_picture(x, y):
    figure = _chart([Line(label="train", x=x, y=y)])
    assert all(0 <= value <= limit for value, limit in _numbers(figure))
    path = "".join(element.attrib.get("d", "") for element in figure.iter())
    assert "nan" not in path and "inf" not in path


def test_long_curves_are_thinned_by_averaging():
    line = Line(label="train", x=list(range(5000)), y=[k % 2 for k in range(5000)])
    svg = _chart([line]).find("svg")
    [series] = json.loads(svg.attrib["data-chart"])
    assert len(series["points"]) <= MAX_POINTS
    assert all(0.3 < float(point[3]) < 0.7 for point in series["points"])  # means of 0 and 1


def test_phases_are_marked_and_numbered_from_two():
    figure = _chart([Line(label="train", x=[0, 100], y=[1.0, 2.0])], markers=[40, 70])
    markers = [e for e in figure.iter("line") if e.attrib.get("class") == "marker"]
    assert len(markers) == 2
    assert re.search(r"\b2\b.*\b3\b", " ".join(figure.itertext()))


def test_phases_that_began_before_the_curve_are_not_drawn():
    figure = _chart([Line(label="train", x=[50, 100], y=[1.0, 2.0])], markers=[20, 70])
    markers = [e for e in figure.iter("line") if e.attrib.get("class") == "marker"]
    assert len(markers) == 1


def test_a_metric_that_was_never_logged_says_so():
    figure = _chart([Line(label="train", x=[], y=[])])
    assert figure.find("svg") is None
    assert "No values logged." in "".join(figure.itertext())


def test_bars_are_in_proportion_and_carry_their_interval():
    svg = ET.fromstring(bar(0.25, maximum=0.5, low=0.2, high=0.3))
    assert svg.find("rect").attrib["width"] == "50.0"
    assert (svg.find("line").attrib["x1"], svg.find("line").attrib["x2"]) == ("40.0", "60.0")


def test_an_axis_from_zero_starts_there_even_if_all_is_zero():
    svg = _chart([Line(label="train", x=[1, 2], y=[0.0, 0.0])], from_zero=True).find("svg")
    assert "0" in [text.text for text in svg.iter("text") if text.attrib["class"] == "end"]
    assert not [text.text for text in svg.iter("text") if (text.text or "").startswith("-")]
