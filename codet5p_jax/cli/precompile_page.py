"""The figures of precompile as one self-contained HTML page, in the style of `codet5p report`."""

import importlib.resources
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from codet5p_jax.cli.precompile_figures import Figures
from codet5p_jax.cli.precompile_tables import WAYS_OUT, collective_text, mesh_text, needed_text
from codet5p_jax.cli.quantities import amount_text, counted_text, duration_text, memory_text
from codet5p_jax.evaluation.charts import bar
from codet5p_jax.evaluation.markup import Markup, definitions, folded, join, table, tag

RESOURCES = {
    "MXU": "Matrix units",
    "HBM": "Memory (HBM)",
    "ICI": "Links within a slice (ICI)",
    "DCN": "Network between slices (DCN)",
}

BREAKABLE = "overflow-wrap: anywhere"  # for paths, which are wider than a phone


def write_page(
    path: pathlib.Path, phases: Sequence[Figures], *, recipe: str, versions: Mapping[str, str]
) -> None:
    """Writes the page; it refers to nothing outside itself.

    Args:
        path: Of the file; its folder is made.
        phases: Figures of each.
        recipe: Gin files and bindings.
        versions: Of what compiled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(phases, recipe=recipe, versions=versions), encoding="utf-8")


def page(phases: Sequence[Figures], *, recipe: str, versions: Mapping[str, str]) -> str:
    """Returns the page as text; see `write_page`."""
    template = importlib.resources.files("codet5p_jax.evaluation") / "report_page.html"
    where = phases[0]["topology"] if phases else "no slice"
    body = [
        tag("h1", f"Compiled for {where}"),
        tag("p", recipe, class_="note", style=BREAKABLE),
        None if phases else tag("p", f"Nothing that was tried fits. {WAYS_OUT}", class_="warn"),
        *map(_phase, phases),
        tag("h2", "Compiled by"),
        definitions(versions.items()),
    ]
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=join([f"{where}: precompile"]), body=join(body)
    )


def _phase(figures: Figures) -> Markup:
    heading = tag("h2", f"Phase {figures['phase']}: {mesh_text(figures['mesh'])}")
    if not figures["fits"]:
        needed, there = needed_text(figures), memory_text(figures["usable_hbm_bytes"])
        text = f"Does not fit: needs {needed} of {there}. {WAYS_OUT}"
        said = folded("What the compiler says", tag("pre", figures["said"]))
        return tag("section", heading, tag("p", text, class_="warn"), _setting(figures), said)
    return tag(
        "section",
        heading,
        tag("p", "All figures are per chip and step.", class_="note"),
        _tiles(figures),
        _memory(figures),
        _roofline(figures),
        _collectives(figures),
        _heaviest(figures),
        _unknown(figures),
        _setting(figures),
    )


def _tiles(figures: Figures) -> Markup:
    facts = {
        "least time of a step": duration_text(figures["step_seconds"]),
        "MFU, at most": counted_text(figures["mfu_bound"], "{:.1%}".format),
        "limited by": figures["limit"],
        "HBM to spare": f"{figures['spare']:.0%}",
        "compiled in": f"{figures['compile_seconds']:.0f} s",
    }
    shown = (
        tag("div", tag("span", v, class_="value"), tag("span", n, class_="name"), class_="tile")
        for n, v in facts.items()
    )
    return tag("div", *shown, class_="tiles")


def _memory(figures: Figures) -> Markup:
    there = figures["usable_hbm_bytes"]
    rows = [
        ("State (parameters, optimizer, objectives)", figures["state_bytes"]),
        ("Whole step at its peak", figures["hbm_bytes"]),
        ("There", there),
    ]
    body = [[name, _bar(size, there), memory_text(size)] for name, size in rows]
    return _titled("Memory", table(["HBM", "", "size"], body, text_columns=2))


def _roofline(figures: Figures) -> Markup:
    longest = figures["step_seconds"]
    work = {
        "MXU": f"{amount_text(figures['flops'], 'FLOPs')}, {_share(figures)} the model's",
        "HBM": f"{amount_text(figures['hbm_traffic_bytes'], 'B')} read and written",
        "ICI": _sent(figures, across_slices=False),
        "DCN": _sent(figures, across_slices=True),
    }
    body = [
        [
            _marked(RESOURCES[resource], is_limit=resource == figures["limit"]),
            work[resource],
            _bar(seconds, longest),
            duration_text(seconds),
        ]
        for resource, seconds in figures["seconds"].items()
        if seconds or resource != "DCN"
    ]
    caption = (
        "Least time of each resource at its full rate; the longest bounds the step. All overlap at "
        "best."
    )
    header = ["Resource", "work", "", "at least"]
    return _titled("Roofline", table(header, body, caption=caption, text_columns=3))


def _collectives(figures: Figures) -> Markup:
    body = [
        [
            collective_text(entry),
            f"{entry['count']:,}",
            amount_text(entry["operand_bytes"], "B"),
            amount_text(entry["operand_bytes"] / max(entry["count"], 1), "B"),
            amount_text(entry["wire_bytes"], "B"),
        ]
        for entry in figures["collectives"]
    ]
    if not body:
        return _titled("Messages", tag("p", "None: the chip works alone.", class_="note"))
    header = ["Collective", "runs", "given", "a run", "sent at least"]
    return _titled("Messages", table(header, body))


def _heaviest(figures: Figures) -> Markup:
    total = figures["hbm_traffic_bytes"]
    body = [
        [
            tag("div", _origin(entry), tag("div", entry["name"], class_="note")),
            entry["opcode"],
            _bar(entry["hbm_bytes"], figures["heaviest"][0]["hbm_bytes"]),
            f"{entry['runs']:,}",
            amount_text(entry["hbm_bytes"], "B"),
            f"{entry['hbm_bytes'] / total:.1%}",
        ]
        for entry in figures["heaviest"]
    ]
    header = ["Where it comes from", "instruction", "", "runs", "in all runs", "of the traffic"]
    caption = "The instructions that read and write most in HBM."
    return _titled("Heaviest instructions", table(header, body, caption=caption, text_columns=3))


def _unknown(figures: Figures) -> Markup | None:
    if not figures["unknown"]:
        return None
    return _titled(
        "Not counted", join(tag("p", line, class_="warn") for line in figures["unknown"])
    )


def _setting(figures: Figures) -> Markup:
    rows = ", ".join(f"{name} {size:,}" for name, size in figures["batches"].items())
    facts = [
        ("chips", figures["chips"]),
        ("rows of a batch", rows),
        ("microbatches", figures["microbatches"]),
        ("remat policy", figures["remat_policy"] or "none"),
        ("dtype", figures["dtype"]),
        ("steps", f"{figures['steps']:,}"),
    ]
    return _titled("How it is computed", definitions(facts))


def _titled(title: str, *children: object) -> Markup:
    return tag("div", tag("h3", title), *children)


def _marked(text: str, *, is_limit: bool) -> Markup:
    return tag("strong", f"{text}: the limit") if is_limit else tag("span", text)


def _share(figures: Figures) -> str:
    model = figures["model_flops"]
    return counted_text(model and model / figures["flops"], "{:.0%}".format)


def _sent(figures: Figures, *, across_slices: bool) -> str:
    sent = sum(
        entry["wire_bytes"]
        for entry in figures["collectives"]
        if entry["across_slices"] == across_slices
    )
    return f"{amount_text(sent, 'B')} sent"


def _bar(value: int | float, maximum: int | float) -> Markup:
    return tag("div", bar(value, maximum=maximum, low=None, high=None), class_="barcell")


def _origin(entry: Mapping[str, Any]) -> str:
    """Returns the last steps of where an instruction comes from; the first say nothing."""
    parts = [part for part in entry["origin"].split("/") if part]
    return "/".join(parts[-4:]) or "(made by the compiler)"
