"""The result of an ablation for people: a table for the terminal, and Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from codet5p_jax.evaluation.ablation import METRICS, Metric

NONE = "–"
TITLES = {"stage1": "after stage 1", "stage2": "after stage 2"}
LEGEND = (
    "Mean ± standard deviation over seeds; below it the paired difference to the base, mean ± "
    "standard deviation, and how many of the seeds have its sign."
)
COLUMNS = {
    "stage1": "Losses in nats per token; EM exact match, ES edit similarity of the next line.",
    "stage2": "MRR of texts' own codes; accuracy of matching; losses in nats per token.",
}


def ablation_tables(ablation: Mapping[str, Any]) -> Iterator[Table]:
    """Yields a rich table per stage; differences of one sign in all seeds are coloured."""
    for stage, rows in ablation["stages"].items():
        metrics = METRICS[stage]
        table = Table(
            title=_title(ablation, stage),
            caption=f"{LEGEND} {COLUMNS[stage]}",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("", no_wrap=True)
        for metric in metrics:
            table.add_column(_heading(metric), justify="right")
        for row in rows:
            cells = [_cell_text(row["cells"][metric.name], metric) for metric in metrics]
            table.add_row(row["variant"], *cells)
        yield table


def markdown(ablation: Mapping[str, Any]) -> str:
    """Returns the tables, what each variant changes and what failed, as Markdown."""
    parts = [f"# Ablations of {ablation['base']}", LEGEND]
    for stage, rows in ablation["stages"].items():
        table = "\n".join(_markdown_rows(rows, METRICS[stage]))
        parts += [f"## {_title(ablation, stage)}", COLUMNS[stage], table]
    parts += ["## What each variant changes", "\n".join(_markdown_changes(ablation["changes"]))]
    if ablation["failed"]:
        failed = "\n".join(f"- {name}" for name in ablation["failed"])
        parts += ["## Failed; the table is without them", failed]
    return "\n\n".join(parts) + "\n"


def _title(ablation: Mapping[str, Any], stage: str) -> str:
    seeds = ", ".join(map(str, ablation["seeds"]))
    plural = "s" if len(ablation["seeds"]) > 1 else ""
    return f"{ablation['base']}, {TITLES[stage]} (seed{plural} {seeds})"


def _heading(metric: Metric) -> str:
    return f"{metric.title} {'↓' if metric.lower_is_better else '↑'}"


def _cell_text(cell: Mapping[str, Any] | None, metric: Metric) -> Text:
    if cell is None:
        return Text(NONE)
    text = Text(_shown(cell, metric))
    if cell["difference"]:
        text.append("\n")
        text.append(_shown_difference(cell["difference"], metric), _style(cell, metric))
    return text


def _style(cell: Mapping[str, Any], metric: Metric) -> str:
    """Green for better and red for worse in every seed of several; else dim."""
    difference = cell["difference"]
    if difference["count"] < 2 or difference["agreeing"] < difference["count"]:
        return "dim"
    better = (difference["mean"] < 0) == metric.lower_is_better
    return "green" if better else "red"


def _shown(cell: Mapping[str, Any], metric: Metric) -> str:
    return f"{_number(cell['mean'], metric)}{_deviation(cell['deviation'], metric)}"


def _shown_difference(difference: Mapping[str, Any], metric: Metric) -> str:
    mean = _number(difference["mean"], metric, sign="+")
    deviation = _deviation(difference["deviation"], metric)
    return f"{mean}{deviation} {difference['agreeing']}/{difference['count']}"


def _number(value: float, metric: Metric, *, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}%" if metric.percent else f"{value:{sign}.3f}"


def _deviation(value: float | None, metric: Metric) -> str:
    if value is None:
        return ""
    return f" ±{100 * value:.1f}" if metric.percent else f" ±{value:.3f}"


def _markdown_rows(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Iterator[str]:
    yield f"| variant | {' | '.join(map(_heading, metrics))} |"
    yield f"|---|{'---|' * len(metrics)}"
    for row in rows:
        cells = [_markdown_cell(row["cells"][metric.name], metric) for metric in metrics]
        yield f"| {row['variant']} | {' | '.join(cells)} |"


def _markdown_cell(cell: Mapping[str, Any] | None, metric: Metric) -> str:
    if cell is None:
        return NONE
    difference = cell["difference"]
    shown = _shown(cell, metric)
    return f"{shown}<br>{_shown_difference(difference, metric)}" if difference else shown


def _markdown_changes(changes: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    for variant, changed in changes.items():
        for each in changed:
            yield f"- {variant}: `{each['name']}` {each['base']} -> {each['variant']}"
