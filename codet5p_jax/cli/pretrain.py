"""`codet5p pretrain`: the main job, station after station, each a command a user can run alone."""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from codet5p_jax.cli.gin_config import nearest

STATIONS_FILE = "stations.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A main job.

    Attributes:
        corpus: Recipe of `codet5p corpus build`.
        vocab_size: Entries of the tokenizer, without sentinels and task tokens.
        stage1: Gin file of the unimodal stage.
        stage2: Gin file of the bimodal stage.
    """

    corpus: str
    vocab_size: int
    stage1: str
    stage2: str


RECIPES = {
    "quickstart": Recipe(
        corpus="quickstart",
        vocab_size=4_000,
        stage1="recipes/quickstart_stage1.gin",
        stage2="recipes/quickstart_stage2.gin",
    ),
}


@dataclasses.dataclass(frozen=True)
class Station:
    """One command of the main job.

    Attributes:
        name: As printed.
        words: Arguments of `codet5p`.
        result: What exists once it is done.
    """

    name: str
    words: Sequence[str]
    result: pathlib.Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the recipe and the output folder."""
    parser.add_argument("--recipe", default="quickstart", help="quickstart")
    parser.add_argument("--out", required=True, help="folder for everything that is made")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the commands, and run none of them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs what is not done yet; returns the exit code of the first command that fails."""
    if arguments.recipe not in RECIPES:
        raise ValueError(
            f"Unknown recipe {arguments.recipe!r}. {nearest(arguments.recipe, list(RECIPES))}"
        )
    out = pathlib.Path(arguments.out)
    stations = plan(RECIPES[arguments.recipe], out)
    if arguments.dry_run:
        print("\n".join(_command_line(station.words) for station in stations))
        return 0
    started = time.monotonic()
    for number, station in enumerate(stations, start=1):
        print(f"[{number}/{len(stations)}] {station.name}", flush=True)
        code = _run_station(station, out, after=stations[number:])
        if code:
            _print_failure(station, code, out)
            return code
    _print_end(out, time.monotonic() - started)
    return 0


def plan(recipe: Recipe, out: pathlib.Path) -> list[Station]:
    """Returns the stations of `recipe` in order, writing below `out`."""
    corpus, tokenizer = out / "corpus", out / "tokenizer"
    stage1, stage2, export = out / "stage1", out / "stage2", out / "export"
    data = [f"--gin.CORPUS_DIR={corpus}", f"--gin.TOKENIZER_DIR={tokenizer}"]
    return [
        Station(
            "corpus: real source code in nine languages",
            ["corpus", "build", f"--recipe={recipe.corpus}", f"--out={corpus}"],
            corpus / "manifest.json",
        ),
        Station(
            "tokenizer: byte-level BPE",
            [
                "tokenizer",
                "train",
                f"--corpus={corpus}",
                f"--out={tokenizer}",
                f"--vocab_size={recipe.vocab_size}",
            ],
            tokenizer / "tokenizer.json",
        ),
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


def _run_station(station: Station, out: pathlib.Path, *, after: Sequence[Station]) -> int:
    """Runs a station that is not done; it, and those after it, count as not done from its start."""
    done = _read_done(out)
    if _is_done(station, done):
        print(f"    done before, in {done[station.name]['seconds']:.0f} s", flush=True)
        return 0
    print(f"    $ {_command_line(station.words)}", flush=True)
    stale = {each.name for each in (station, *after)}
    done = {name: record for name, record in done.items() if name not in stale}
    _write_done(out, done)
    started = time.monotonic()
    code = _call(station.words)
    if code == 0:
        record = {"words": list(station.words), "seconds": time.monotonic() - started}
        _write_done(out, {**done, station.name: record})
    return code


def _is_done(station: Station, done: Mapping[str, Any]) -> bool:
    record = done.get(station.name)
    return bool(record and record["words"] == list(station.words) and station.result.exists())


def _call(words: Sequence[str]) -> int:
    """Runs `codet5p` in a process of its own, so that each station frees its memory."""
    command = [sys.executable, "-m", "codet5p_jax.cli.main", *words]
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the command got the same signal, and saves before it ends
                continue


def _command_line(words: Sequence[str]) -> str:
    return f"codet5p {shlex.join(words)}"


def _read_done(out: pathlib.Path) -> dict[str, Any]:
    path = out / STATIONS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_done(out: pathlib.Path, done: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    new = out / f"{STATIONS_FILE}.new"
    new.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    os.replace(new, out / STATIONS_FILE)


def _print_failure(station: Station, code: int, out: pathlib.Path) -> None:
    if code in (130, 143):
        print("Stopped; run the same command again to go on.", file=sys.stderr)
        return
    print(
        f"{station.name!r} failed with exit code {code}; what came before it is kept in {out}. "
        "Mend the cause and run the same command again.",
        file=sys.stderr,
    )


def _print_end(out: pathlib.Path, seconds: float) -> None:
    table = Table("station", "seconds", title="The main job")
    for name, record in _read_done(out).items():
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
        f"  codet5p infer --export={out / 'export'} --text='def add(a, b):'\n"
        f"  codet5p corpus show {out / 'corpus'}\n"
        f"  codet5p train --gin_file=recipes/quickstart_stage1.gin --gin.ALL_STEPS=2000 "
        f"--gin.TRAIN_STEPS=2100 ...   (commands: codet5p pretrain --dry_run --out={out})\n",
        highlight=False,
        soft_wrap=True,
    )
