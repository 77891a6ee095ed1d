"""Line charts and bars as inline SVG, drawn in plain Python; colours come from the page's CSS."""

import dataclasses
import json
import math
from collections.abc import Sequence

from codet5p_jax.evaluation.markup import Markup, join, tag

WIDTH, HEIGHT = 380, 236  # user units; shown at about 1:1, so 12 units of text are 12 pixels
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 20, 42
Number = int | float
MAX_POINTS = 400  # more are averaged in bins: a screen shows no more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One curve. `style` is the number of its colour in the page's CSS, 1..4."""

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    style: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values low..high linearly to positions start..end."""

    low: Number
    high: Number
    start: Number
    end: Number

    def __call__(self, value: Number) -> float:
        """Returns the position of `value`, to a tenth of a unit."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: Number, high: Number, *, count: int = 5) -> list[Number]:
    """Returns about `count` round numbers that cover low..high."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_labels(values: Sequence[Number]) -> list[str]:
    """Returns short labels in one unit for a whole axis: 0, 5k, 10k or 0, 2e-4, 4e-4."""
    largest = max(abs(value) for value in values)
    for size, unit, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if largest >= size:
            return [f"{value / unit:.4g}{suffix}" if value else "0" for value in values]
    if largest >= 0.01:
        return [f"{value:,.4g}" for value in values]
    return [_scientific(value) for value in values]


def _scientific(value: Number) -> str:
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    return f"{value / 10.0**exponent:.3g}e{exponent}"


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    markers: Sequence[Number] = (),
    from_zero: bool = False,
) -> Markup:
    """Returns a figure with axes, legend and curves.

    Args:
        lines: Curves, each with at least one point; curves without points are left out.
        title: Heading of the figure.
        x_label: What the horizontal axis shows, with its unit.
        y_label: What the vertical axis shows, with its unit.
        markers: Positions of vertical dashed lines, numbered from 2 (the first needs no line).
        from_zero: Whether the vertical axis starts at zero.
    """
    thinned = [_thin(line) for line in lines if line.x]
    if not thinned:
        return tag("figure", tag("figcaption", title), tag("p", "No values logged.", class_="note"))
    left, right = _horizontal_extent(thinned)
    x_ticks = [tick for tick in ticks(left, right, count=4) if left <= tick <= right]
    low, high = _extent(thinned, "y")
    y_ticks = ticks(min(0.0, low), high or 1.0) if from_zero else ticks(low, high)
    x = Scale(low=left, high=right, start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=y_ticks[0], high=y_ticks[-1], start=HEIGHT - BOTTOM, end=TOP)
    drawing = tag(
        "svg",
        _grid(x, y, x_ticks, y_ticks),
        _axis_labels(x_label, y_label),
        *(
            _marker(x, position, number)
            for number, position in enumerate(markers, start=2)
            if left <= position <= right
        ),
        *(_curve(x, y, line) for line in thinned),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {y_label} over {x_label}",
        data_chart=_readout(thinned, x, y),
    )
    readout = tag("p", "\u00a0", class_="readout", aria_hidden="true")
    return tag("figure", tag("figcaption", title), _legend(thinned), drawing, readout)


def bar(value: Number, *, maximum: Number, low: Number | None, high: Number | None) -> Markup:
    """Returns a bar that fills its table cell, with a whisker from `low` to `high`."""
    scale = Scale(low=0.0, high=maximum or 1.0, start=0, end=100)
    whisker = None
    if low is not None and high is not None:
        whisker = tag("line", x1=scale(low), x2=scale(high), y1=6, y2=6, class_="whisker")
    return tag(
        "svg",
        tag("rect", x=0, y=1, width=max(scale(value), 0.3), height=10, class_="bar"),
        whisker,
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        class_="bars",
        aria_hidden="true",
    )


def _thin(line: Line) -> Line:
    size = -(-len(line.x) // MAX_POINTS)
    bins = [slice(first, first + size) for first in range(0, len(line.x), size)]
    return dataclasses.replace(
        line, x=[_mean(line.x[rows]) for rows in bins], y=[_mean(line.y[rows]) for rows in bins]
    )


def _mean(values: Sequence[Number]) -> float:
    return sum(values) / len(values)


def _extent(lines: Sequence[Line], axis: str) -> tuple[Number, Number]:
    values = [value for line in lines for value in getattr(line, axis)]
    return min(values), max(values)


def _horizontal_extent(lines: Sequence[Line]) -> tuple[Number, Number]:
    low, high = _extent(lines, "x")
    if 0 < low <= 0.1 * high:
        low = 0.0  # a run is shown from its beginning
    return (low, high) if low < high else (low - 1, high + 1)


def _grid(x: Scale, y: Scale, x_ticks: Sequence[Number], y_ticks: Sequence[Number]) -> Markup:
    horizontal = [
        join(
            [
                tag("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"),
                tag("text", label, x=LEFT - 6, y=y(value) + 4, class_="end"),
            ]
        )
        for value, label in zip(y_ticks, tick_labels(y_ticks), strict=True)
    ]
    below = y.start + 16
    vertical = [
        tag("text", label, x=x(value), y=below, class_=_anchor(x, value))
        for value, label in zip(x_ticks, tick_labels(x_ticks), strict=True)
    ]
    axis = tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis")
    return join([*horizontal, *vertical, axis])


def _anchor(x: Scale, value: Number) -> str:
    return "end" if x(value) > WIDTH - RIGHT - 14 else "middle"  # it would leave the picture


def _axis_labels(x_label: str, y_label: str) -> Markup:
    middle = (LEFT + WIDTH - RIGHT) / 2
    height = (TOP + HEIGHT - BOTTOM) / 2
    return join(
        [
            tag("text", x_label, x=middle, y=HEIGHT - 8, class_="middle label"),
            tag(
                "text",
                y_label,
                x=12,
                y=height,
                class_="middle label",
                transform=f"rotate(-90 12 {height})",
            ),
        ]
    )


def _marker(x: Scale, position: Number, number: int) -> Markup:
    at = x(position)
    line = tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="marker")
    return join([line, tag("text", number, x=at, y=TOP - 6, class_="middle")])


def _curve(x: Scale, y: Scale, line: Line) -> Markup:
    points = [(x(a), y(b)) for a, b in zip(line.x, line.y, strict=True)]
    if len(points) == 1:
        return tag("circle", cx=points[0][0], cy=points[0][1], r=4, class_=f"dot s{line.style}")
    path = "M" + "L".join(f"{a} {b}" for a, b in points)
    dots = [tag("circle", cx=a, cy=b, r=2.5, class_=f"dot s{line.style}") for a, b in points]
    few = join(dots) if len(points) <= 25 else None
    return join([tag("path", d=path, class_=f"curve s{line.style}"), few])


def _legend(lines: Sequence[Line]) -> Markup:
    return tag(
        "p",
        *(tag("span", line.label, class_=f"key s{line.style}") for line in lines),
        class_="legend",
    )


def _readout(lines: Sequence[Line], x: Scale, y: Scale) -> str:
    """Points for the page's script, which shows the values under the pointer."""
    series = [
        {
            "label": line.label,
            "points": [
                [x(a), y(b), f"{a:,.0f}", f"{b:.4g}"] for a, b in zip(line.x, line.y, strict=True)
            ],
        }
        for line in lines
    ]
    return json.dumps(series, separators=(",", ":"))
