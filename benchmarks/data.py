"""Benchmark: packed span-denoising rows of 512 tokens from the cached task, in one process.

``python -m benchmarks.data`` reads the same cache with our batches and, in turns, with SeqIO's own
pipeline over single examples. The limit is absolute: 4,000 rows a second.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import sysconfig
import time

from rich.console import Console
from rich.table import Table

from benchmarks.paired import Comparison, Side, compare, report, serve

ROWS_PER_BATCH = 64
LENGTHS = {"inputs": 512, "targets": 128}
MIXTURE = "unimodal_span_denoising"
LEAST_ROWS_PER_SECOND = 4_000
WORK = pathlib.Path("runs/bench_data")


def prepare(directory: pathlib.Path) -> None:
    """Makes corpus, tokenizer and cache of this Python's own library, unless they are there."""
    corpus, tokenizer, cache = (directory / name for name in ("corpus", "tokenizer", "cache"))
    source = f"--source={sysconfig.get_paths()['stdlib']}"
    build = ["corpus", "build", source, "--license=PSF-2.0", f"--out={corpus}"]
    train = ["tokenizer", "train", f"--corpus={corpus}", f"--out={tokenizer}", "--vocab_size=8000"]
    write = ["cache", f"--corpus={corpus}", f"--tokenizer={tokenizer}", f"--out={cache}"]
    steps = {
        corpus / "manifest.json": build,
        tokenizer / "tokenizer.json": train,
        cache / f"{MIXTURE}_python" / "COMPLETED": write,
    }
    for product, arguments in steps.items():
        if not product.exists():
            subprocess.run([sys.executable, "-m", "codet5p_jax.cli.main", *arguments], check=True)


def compare_with_seqio(directory: pathlib.Path, *, turns: int, batches: int) -> Comparison:
    """Returns our batches beside SeqIO's, of one cache."""
    python, options = (sys.executable, "-m"), ("--serve", f"--data_dir={directory}")
    return compare(
        "data",
        Side(name="codet5p_jax", command=(*python, "benchmarks.data", *options)),
        Side(name="SeqIO", command=(*python, "benchmarks.peers.seqio_span_denoising", *options)),
        turns=turns,
        units=batches,
        limits={},
    )


def serve_batches(directory: pathlib.Path) -> None:
    """Serves turns of our packed batches."""
    start = time.perf_counter()
    import tasks
    from codet5p_jax.data.batches import DatasetConfig, batches

    imported = time.perf_counter()
    tasks.register(directory / "corpus", directory / "tokenizer", cache_dir=directory / "cache")
    config = DatasetConfig(
        mixture_or_task_name=MIXTURE,
        task_feature_lengths=LENGTHS,
        batch_size=ROWS_PER_BATCH,
        use_cached=True,
        pack=True,
    )
    with contextlib.closing(batches(config)) as iterator:
        first = next(iterator)
        ready = time.perf_counter()

        def take(count: int) -> None:
            for _ in range(count):
                next(iterator)

        facts = {
            "rows_per_batch": ROWS_PER_BATCH,
            "import_seconds": imported - start,
            "first_batch_seconds": ready - imported,
            "state_bytes": sum(value.nbytes for value in iterator.get_state().values()),
            "state_seconds": _seconds_of(iterator.get_state),
            "filled_share": float((first["encoder_input_tokens"] != 0).mean()),
        }
        serve(take, facts=facts)


def _seconds_of(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def print_rows(comparison: Comparison) -> bool:
    """Prints rows per second; returns whether ours are enough."""
    table = Table(title=f"packed rows of {LENGTHS['inputs']} tokens per second")
    for column in ("", "median", "slowest turn", "fastest turn", "per CPU second"):
        table.add_column(column, justify="right" if column else "left")
    for side in (comparison.ours, comparison.peer):
        rates = sorted(ROWS_PER_BATCH / seconds for seconds in side.seconds)
        cpu = ROWS_PER_BATCH / sorted(side.cpu_seconds)[len(side.cpu_seconds) // 2]
        values = (ROWS_PER_BATCH / side.median, rates[0], rates[-1], cpu)
        table.add_row(side.name, *(f"{value:,.0f}" for value in values))
    met = ROWS_PER_BATCH / comparison.ours.median >= LEAST_ROWS_PER_SECOND
    console = Console()
    console.print(table)
    console.print(
        f"at least {LEAST_ROWS_PER_SECOND:,} rows/s: {'[green]met[/]' if met else '[red]missed[/]'}"
    )
    for name, value in comparison.ours.facts.items():
        console.print(f"  {name} {value:.4g}")
    return met


def main() -> int:
    """Runs the benchmark, or serves our side of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=pathlib.Path, default=WORK)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=150, help="batches in a turn")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_batches(arguments.data_dir)
        return 0
    prepare(arguments.data_dir)
    comparison = compare_with_seqio(
        arguments.data_dir, turns=arguments.turns, batches=arguments.batches
    )
    report(comparison)
    return 0 if print_rows(comparison) else 1


if __name__ == "__main__":
    sys.exit(main())
