"""`codet5p pretrain`: the main job, station after station, each a command a user can run alone."""

import argparse
import dataclasses
import os
import pathlib
import resource
import shutil
import sys
import time

from rich.console import Console
from rich.table import Table

from codet5p_jax.cli.gin_config import nearest
from codet5p_jax.cli.stations import (
    STOPPED,
    Station,
    command_line,
    corpus_station,
    read_done,
    run_station,
    tokenizer_station,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A main job.

    Attributes:
        corpus: Recipe of `codet5p corpus build`.
        vocab_size: Entries of the tokenizer, without sentinels and task tokens.
        stage1: Gin file of the unimodal stage.
        stage2: Gin file of the bimodal stage.
        completion: Gin file that finetunes stage 1 on completion, to judge it.
    """

    corpus: str
    vocab_size: int
    stage1: str
    stage2: str
    completion: str


RECIPES = {
    "quickstart": Recipe(
        corpus="quickstart",
        vocab_size=4_000,
        stage1="recipes/quickstart_stage1.gin",
        stage2="recipes/quickstart_stage2.gin",
        completion="recipes/quickstart_completion.gin",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the recipe and the output folder."""
    parser.add_argument("--recipe", default="quickstart", help="quickstart")
    parser.add_argument("--out", required=True, help="folder for everything that is made")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the commands, and run none of them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs what is not done yet; returns the exit code of the first command that fails."""
    out = pathlib.Path(arguments.out)
    stations = plan(find_recipe(arguments.recipe), out)
    if arguments.dry_run:
        print("\n".join(command_line(station.words) for station in stations))
        return 0
    started = time.monotonic()
    for number, station in enumerate(stations, start=1):
        print(f"[{number}/{len(stations)}] {station.name}", flush=True)
        code = run_station(station, out, stale=[each.name for each in stations[number:]])
        if code:
            _print_failure(station, code, out)
            return code
    _print_end(out, time.monotonic() - started)
    return 0


def find_recipe(name: str) -> Recipe:
    """Returns the main job called `name`.

    Raises:
        ValueError: There is none; the message gives the nearest names.
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}. {nearest(name, list(RECIPES))}")
    return RECIPES[name]


def plan(recipe: Recipe, out: pathlib.Path) -> list[Station]:
    """Returns the stations of `recipe` in order, writing below `out`."""
    corpus, tokenizer = out / "corpus", out / "tokenizer"
    stage1, stage2, export = out / "stage1", out / "stage2", out / "export"
    data = [f"--gin.CORPUS_DIR={corpus}", f"--gin.TOKENIZER_DIR={tokenizer}"]
    return [
        corpus_station(recipe.corpus, out),
        tokenizer_station(recipe.vocab_size, out),
        Station(
            "stage 1: span denoising, causal language models",
            ["train", f"--gin_file={recipe.stage1}", f"--gin.MODEL_DIR={stage1}", *data],
            stage1 / "metrics.jsonl",
        ),
        Station(
            "stage 2: contrastive, matching, text-to-code, code-to-text",
            [
                "train",
                f"--gin_file={recipe.stage2}",
                f"--gin.MODEL_DIR={stage2}",
                f"--gin.INITIAL_CHECKPOINT_PATH={stage1}",
                *data,
            ],
            stage2 / "metrics.jsonl",
        ),
        Station(
            "evaluation on packages held out of training",
            [
                "eval",
                f"--model_dir={stage2}",
                f"--before={stage1}",
                f"--corpus={corpus}",
                f"--tokenizer={tokenizer}",
            ],
            stage2 / "evaluation.json",
        ),
        Station(
            "export to Hugging Face format",
            ["export", f"--model_dir={stage2}", f"--out={export}", "--format=t5"],
            export / "model.safetensors",
        ),
        Station(
            "verification against transformers",
            ["verify", f"--export={export}", f"--model_dir={stage2}"],
            export / "verification.json",
        ),
        Station(
            "report",
            ["report", str(stage2), f"--also={stage1}", f"--corpus={corpus}"],
            stage2 / "report.html",
        ),
    ]


def _print_failure(station: Station, code: int, out: pathlib.Path) -> None:
    if code in STOPPED:
        print("Stopped; run the same command again to go on.", file=sys.stderr)
        return
    print(
        f"{station.name!r} failed with exit code {code}; what came before it is kept in {out}. "
        "Mend the cause and run the same command again.",
        file=sys.stderr,
    )


def _print_end(out: pathlib.Path, seconds: float) -> None:
    table = Table("station", "seconds", title="The main job")
    for name, record in read_done(out).items():
        table.add_row(name, f"{record['seconds']:.0f}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    console = Console()
    console.print(table)
    console.print(
        f"This call took {seconds / 60:.1f} minutes; the largest process used {memory:.1f} GiB.\n"
        f"\n"
        f"  model    {out / 'export'} (Hugging Face format), {out / 'stage2'} (checkpoints)\n"
        f"  logs     {out / 'stage1'} and {out / 'stage2'}: metrics.jsonl, TensorBoard files\n"
        f"  report   {out / 'stage2' / 'report.html'}\n"
        f"\n"
        f"Try next:\n"
        f"{_activation()}"
        f"  codet5p infer --export={out / 'export'} --text='def add(a, b):'\n"
        f"  codet5p corpus show {out / 'corpus'}\n"
        f"  codet5p train --gin_file=recipes/quickstart_stage1.gin --gin.ALL_STEPS=2000 "
        f"--gin.TRAIN_STEPS=2100 ...   (commands: codet5p pretrain --dry_run --out={out})\n",
        highlight=False,
        soft_wrap=True,
    )


def _activation() -> str:
    """Returns the line that puts `codet5p` on the PATH; "" where it is."""
    activate = os.path.relpath(pathlib.Path(sys.prefix) / "bin" / "activate")
    if shutil.which("codet5p") or not os.path.exists(activate):
        return ""
    return f"  source {activate}\n"
