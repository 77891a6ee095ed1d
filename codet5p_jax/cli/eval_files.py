"""`codet5p eval_files`: what a model after stage 1 does with files held out of training."""

import argparse
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from codet5p_jax.cli.eval import LOG_WIDTH, load_trained, positive, read_streams
from codet5p_jax.cli.results import now, results_console, write_results
from codet5p_jax.evaluation.completion import (
    CompletionSetting,
    completion_examples,
    completion_quality,
    read_files,
)
from codet5p_jax.evaluation.losses import stream_losses
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer

STREAM = "completion"  # of the recipe that finetunes on completion
PRETRAINING_STREAM = "decoder_clm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p eval_files` to `parser`."""
    add = parser.add_argument
    add("--model_dir", required=True, metavar="DIR", help="MODEL_DIR of stage 1, for the losses")
    add(
        "--completion",
        metavar="DIR",
        help="MODEL_DIR of finetuning on completion, which writes the lines (default: --model_dir)",
    )
    add(
        "--lengths_of",
        metavar="DIR",
        help="MODEL_DIR whose lengths all streams have, where --model_dir was trained on fewer",
    )
    add("--corpus", required=True, metavar="DIR", help="output of codet5p corpus build")
    add("--tokenizer", required=True, metavar="DIR", help="output of codet5p tokenizer train")
    add("--out", metavar="FILE", help="result (default: MODEL_DIR/eval_files.json)")
    add(
        "--examples",
        type=positive,
        default=256,
        help="held-out examples per stream (%(default)s)",
    )
    add("--lines", type=positive, default=400, help="lines to complete (%(default)s)")
    add("--seed", type=int, default=0, help="another seed asks for other lines (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates, prints a table and writes eval_files.json."""
    started = time.monotonic()
    tokenizer = load_tokenizer(arguments.tokenizer)
    results = {
        "created": now(),
        "losses": _losses(arguments),
        "completion": _completion(arguments, tokenizer),
        "seconds": round(time.monotonic() - started, 1),
    }
    path = pathlib.Path(arguments.out or pathlib.Path(arguments.model_dir) / "eval_files.json")
    write_results(path, results)
    _print(results, path)


def _losses(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from codet5p_jax.training.checkpoints import load_metadata

    trained, metadata = load_trained(arguments.model_dir, arguments.tokenizer)
    if arguments.lengths_of:
        metadata = load_metadata(arguments.lengths_of)
    lengths = metadata.get("task_feature_lengths", {})
    return [
        stream_losses(
            stream.objective, stream.batches, models={"loss": trained}, unigram=stream.unigram
        )
        for stream in read_streams(
            arguments, lengths, trained.model.config.vocab_size, flag="--lengths_of"
        )
    ]


def _completion(arguments: argparse.Namespace, tokenizer: Tokenizer) -> dict[str, Any]:
    model_dir = arguments.completion or arguments.model_dir
    trained, metadata = load_trained(model_dir, arguments.tokenizer)
    setting = CompletionSetting(
        length=_length(model_dir, metadata), examples=arguments.lines, seed=arguments.seed
    )
    examples = completion_examples(read_files(arguments.corpus), tokenizer, setting)
    return {
        "model_dir": model_dir,
        **completion_quality(trained, tokenizer, examples, setting=setting),
    }


def _length(model_dir: str, metadata: Mapping[str, Any]) -> int:
    """Returns the decoder's length in training on whole files."""
    lengths = metadata.get("task_feature_lengths", {})
    for stream in (STREAM, PRETRAINING_STREAM):
        if stream in lengths:
            return lengths[stream]["targets"]
    raise ValueError(
        f"{model_dir} was trained neither on completion nor on decoder-only language modeling, so "
        "it cannot complete lines. Finetune it with --gin_file=recipes/quickstart_completion.gin "
        "and give that MODEL_DIR as --completion."
    )


def _print(results: Mapping[str, Any], path: pathlib.Path) -> None:
    from rich import box
    from rich.table import Table

    from codet5p_jax.evaluation.terminal_table import MEASURES

    table = Table(title="Held-out files", box=box.SIMPLE_HEAD)
    for name in ("measure", "over", "value", "baseline or 95% interval"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for row in results["losses"]:
        table.add_row(
            f"{MEASURES[row['objective']]}, loss",
            f"{row['tokens']:,} tokens",
            f"{row['loss']:.3f}",
            f"unigram {row['unigram']:.3f}",
        )
    completion = results["completion"]
    for name in ("exact_match", "edit_similarity"):
        estimate = completion[name]
        table.add_row(
            f"line completion, {name.replace('_', ' ')}",
            f"{estimate['count']:,} lines",
            f"{estimate['mean']:.1%}",
            f"{estimate['low']:.1%} to {estimate['high']:.1%}",
        )
    table.add_row(
        "line completion, loss", f"{completion['tokens']:,} tokens", f"{completion['loss']:.3f}", ""
    )
    console = results_console(LOG_WIDTH)
    console.print(table)
    print(f"Evaluation: {path} ({results['seconds']:.0f} s)")
