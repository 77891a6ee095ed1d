"""The figures of precompile for a person, in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from codet5p_jax.cli.precompile_figures import Figures
from codet5p_jax.cli.quantities import amount_text, counted_text, duration_text, memory_text

WAYS_OUT = (
    "Try more MICROBATCHES, a CHUNK_LENGTH, a file of gin/remat, PARAMETER_PARTITIONING_DIMS=2, "
    "or more chips; --search finds the cheapest."
)


def phase_table(figures: Figures) -> Group:
    """Returns the figures of one phase, its name before them, and ways out where it does not fit.

    Args:
        figures: Of precompile_figures.phase_figures.
    """
    # Lines of their own: a title or a caption would be wrapped to the width of the table.
    title = f"phase {figures['phase']} on {figures['topology']} ({mesh_text(figures['mesh'])})"
    table = Table()
    table.add_column("per chip and step")
    table.add_column("", justify="right")
    for name, value in phase_rows(figures):
        table.add_row(name, value)
    if figures["fits"]:
        return Group(Text(title, style="italic"), table)
    table.add_row("fits", "[bold red]no")
    return Group(Text(title, style="italic"), table, Text(WAYS_OUT))


def phase_rows(figures: Figures) -> list[tuple[str, str]]:
    """Returns (what, how much) of one phase, per chip and step.

    Args:
        figures: As above.
    """
    there = memory_text(figures["usable_hbm_bytes"])
    if not figures["fits"]:
        return [("HBM", needed_text(figures)), ("HBM there", there)]
    return [
        ("HBM", needed_text(figures)),
        ("of which state", memory_text(figures["state_bytes"])),
        ("HBM there", f"{there}, {figures['spare']:.0%} spare"),
        ("FLOPs", amount_text(figures["flops"], "")),
        ("of which the model's", counted_text(figures["model_flops"], amount_text)),
        ("read and written in HBM", amount_text(figures["hbm_traffic_bytes"], "B")),
        *(
            (
                collective_text(entry),
                f"{amount_text(entry['operand_bytes'], 'B')} in {entry['count']:,}",
            )
            for entry in figures["collectives"]
        ),
        *(
            (f"{resource} time, at least", duration_text(seconds))
            for resource, seconds in figures["seconds"].items()
            if seconds
        ),
        ("limited by", figures["limit"]),
        ("MFU, at most", counted_text(figures["mfu_bound"], "{:.1%}".format)),
        ("compiled in", f"{figures['compile_seconds']:.0f} s"),
        *(
            [("saved", f"{figures['saved']}, {amount_text(figures['saved_bytes'], 'B')}")]
            if "saved" in figures
            else []
        ),
        *(("not counted", sentence) for sentence in figures["unknown"]),
    ]


def needed_text(figures: Figures) -> str:
    """Returns the memory that a phase needs; the compiler does not always say.

    Args:
        figures: As above.
    """
    needed = figures["hbm_bytes"]
    return memory_text(needed) if needed else "more than there is"


def collective_text(entry: Mapping[str, Any]) -> str:
    """Returns a kind of collective and its reach, such as "all-reduce of 16".

    Args:
        entry: Of a phase's collectives.
    """
    if entry["across_slices"]:
        return f"{entry['kind']} across {entry['group_size']} slices"
    return f"{entry['kind']} of {entry['group_size']}"


def mesh_text(mesh: Mapping[str, int]) -> str:
    """Returns a mesh in words, such as "data 8 x model 2".

    Args:
        mesh: Axis -> size.
    """
    return " x ".join(f"{axis} {size}" for axis, size in mesh.items() if size > 1) or "one chip"
