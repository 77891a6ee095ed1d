"""Benchmark: seconds from `codet5p train` to its first step, for the quickstart model.

``python -m benchmarks.startup`` starts the command several times, compile included, each in a new
MODEL_DIR, and reads the time of the first line of metrics.jsonl. The limit is absolute: 60 s.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

from benchmarks.data import WORK, prepare
from benchmarks.paired import RESULTS

MOST_SECONDS = 60.0
RECIPE = "recipes/quickstart_stage1.gin"


def first_step_seconds(directory: pathlib.Path, model_dir: pathlib.Path) -> float:
    """Returns the seconds from the start of the command to the end of its first step."""
    bindings = {
        "MODEL_DIR": model_dir,
        "CORPUS_DIR": directory / "corpus",
        "TOKENIZER_DIR": directory / "tokenizer",
        "VOCAB_SIZE": 8_100,
        "DENOISING_STEPS": 1,
        "ALL_STEPS": 1,
        "TRAIN_STEPS": 2,
        "WARMUP_STEPS": 1,
        "LOG_PERIOD": 1,
        "EVAL_PERIOD": "None",
    }
    flags = [f"--gin.{name}={value}" for name, value in bindings.items()]
    started = time.time()
    subprocess.run(
        [sys.executable, "-m", "codet5p_jax.cli.main", "train", f"--gin_file={RECIPE}", *flags],
        check=True,
        capture_output=True,
    )
    with (model_dir / "metrics.jsonl").open(encoding="utf-8") as lines:
        return json.loads(next(lines))["time"] - started


def main() -> None:
    """Measures, prints a table and writes benchmarks/results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=pathlib.Path, default=WORK)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    prepare(arguments.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        seconds = [
            first_step_seconds(arguments.data_dir, pathlib.Path(folder) / str(turn))
            for turn in range(arguments.turns)
        ]
    result = {
        "seconds": seconds,
        "median": statistics.median(seconds),
        "limit": MOST_SECONDS,
        "met": statistics.median(seconds) <= MOST_SECONDS,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "startup.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = Table("startup", "median", "smallest", "largest", "limit")
    figures = (result["median"], min(seconds), max(seconds), MOST_SECONDS)
    table.add_row("codet5p train, to its first step", *(f"{figure:.1f} s" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
