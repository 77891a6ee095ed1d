"""`codet5p eval`: losses, retrieval, matching and samples on packages held out of training."""

import argparse
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from codet5p_jax.cli.results import now, results_console, write_results
from codet5p_jax.evaluation.evaluate import Evaluation, HeldOutData, HeldOutStream, evaluate
from codet5p_jax.evaluation.heldout import HeldOutPairs, read_pairs
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.tokenizer import load_tokenizer

STREAMS = {  # stream of stage 1 -> its mixture
    "span_denoising": "unimodal_span_denoising",
    "seq2seq_clm": "unimodal_seq2seq_clm",
    "decoder_clm": "unimodal_decoder_clm",
}
UNIGRAM_EXAMPLES = 4096  # training examples counted: some 400,000 tokens in the quickstart
LOG_WIDTH = 110

Lengths = Mapping[str, Mapping[str, int]]  # stream -> feature -> tokens of an example


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p eval` to `parser`."""
    defaults = Evaluation(text_length=0, code_length=0)
    add = parser.add_argument
    add("--model_dir", required=True, metavar="DIR", help="MODEL_DIR to evaluate, after stage 2")
    add("--before", metavar="DIR", help="MODEL_DIR of stage 1, to compare with")
    add("--corpus", required=True, metavar="DIR", help="output of codet5p corpus build")
    add("--tokenizer", required=True, metavar="DIR", help="output of codet5p tokenizer train")
    add("--out", metavar="FILE", help="result (default: MODEL_DIR/evaluation.json)")
    add("--pairs", type=positive, default=1000, help="held-out text-code pairs (%(default)s)")
    add(
        "--rerank_queries",
        type=positive,
        default=defaults.rerank_queries,
        help="texts whose 32 nearest codes are re-ranked, the slow part (%(default)s)",
    )
    add(
        "--examples",
        type=positive,
        default=128,
        help="held-out examples per stream for the losses (%(default)s)",
    )
    add("--text_length", type=positive, help="tokens per text (default: as in training)")
    add("--code_length", type=positive, help="tokens per code (default: as in training)")
    add("--seed", type=int, default=0, help="seed of order, negatives, bootstrap (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates, prints a table and writes evaluation.json."""
    started = time.monotonic()
    tokenizer = load_tokenizer(arguments.tokenizer)
    after, metadata = load_trained(arguments.model_dir, arguments.tokenizer)
    before, before_metadata = (
        load_trained(arguments.before, arguments.tokenizer)
        if arguments.before
        else (None, metadata)
    )
    lengths = {
        **metadata.get("task_feature_lengths", {}),
        **before_metadata.get("task_feature_lengths", {}),
    }
    config = _config(arguments, lengths)
    pairs = read_pairs(arguments.corpus, limit=arguments.pairs, seed=arguments.seed)
    print(_announcement(pairs))
    streams = read_streams(arguments, lengths, after.model.config.vocab_size)
    data = HeldOutData(streams=streams, pairs=pairs)
    results = evaluate(after, tokenizer, before=before, data=data, config=config)
    evaluation = {
        "created": now(),
        "seconds": round(time.monotonic() - started, 1),
        "models": {"after": _origin(arguments.model_dir, metadata)}
        | ({"before": _origin(arguments.before, before_metadata)} if before else {}),
        **results,
    }
    path = pathlib.Path(arguments.out or pathlib.Path(arguments.model_dir) / "evaluation.json")
    write_results(path, evaluation)
    _print(evaluation, path)


def positive(text: str) -> int:
    """Returns a count of a command line; argparse shows what is wrong with it."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def load_trained(model_dir: str, tokenizer_dir: str) -> tuple[TrainedModel, Mapping[str, Any]]:
    """Returns the newest checkpoint of MODEL_DIR and its metadata."""
    from codet5p_jax.checkpoint import load_checkpoint
    from codet5p_jax.models.codet5p import CodeT5p

    checkpoint = load_checkpoint(model_dir, tokenizer_dir=tokenizer_dir)
    trained = TrainedModel(model=CodeT5p(checkpoint.config), params=checkpoint.params)
    return trained, checkpoint.metadata


def _config(arguments: argparse.Namespace, lengths: Lengths) -> Evaluation:
    recorded = lengths.get("pairs", {})
    text_length = arguments.text_length or recorded.get("text")
    code_length = arguments.code_length or recorded.get("code")
    if text_length is None or code_length is None:
        raise ValueError(
            f"The metadata of {arguments.model_dir} does not tell how long texts and codes were in "
            "training; give both --text_length and --code_length."
        )
    return Evaluation(
        text_length=text_length,
        code_length=code_length,
        rerank_queries=arguments.rerank_queries,
        seed=arguments.seed,
    )


def read_streams(
    arguments: argparse.Namespace, lengths: Lengths, vocab_size: int, *, flag: str = "--before"
) -> list[HeldOutStream]:
    """Reads the streams whose lengths in training are known, and says which are left out.

    Args:
        arguments: Those of the command: corpus, tokenizer, examples.
        lengths: What is known.
        vocab_size: Ids of the unigram model.
        flag: How the command is told of another MODEL_DIR that knows lengths.
    """
    import tasks
    from codet5p_jax.evaluation.heldout_streams import read_stream

    unknown = [stream for stream in STREAMS if stream not in lengths]
    if unknown:
        print(
            f"No losses of {', '.join(unknown)}: no model given was trained on them. Give the "
            f"MODEL_DIR of stage 1 as {flag}."
        )
    tasks.register(arguments.corpus, arguments.tokenizer)
    return [
        read_stream(
            mixture,
            task_feature_lengths=lengths[stream],
            examples=arguments.examples,
            unigram_examples=UNIGRAM_EXAMPLES,
            vocab_size=vocab_size,
        )
        for stream, mixture in STREAMS.items()
        if stream in lengths
    ]


def _announcement(pairs: HeldOutPairs) -> str:
    return (
        f"Held-out pairs: the first {len(pairs.pairs):,} of {pairs.available:,} of the test split "
        f"in the order of a hash; {pairs.duplicates:,} left out whose code came before; "
        f"{pairs.repeated_texts:,} share their text with another."
    )


def _origin(model_dir: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"directory": model_dir, "step": metadata.get("step")}


def _print(evaluation: Mapping[str, Any], path: pathlib.Path) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from codet5p_jax.evaluation.results_section import SAMPLE_PARTS
    from codet5p_jax.evaluation.terminal_table import evaluation_table

    console = results_console(LOG_WIDTH)
    console.print(evaluation_table(evaluation))
    for sample in evaluation["samples"]:
        body = "\n".join(
            f"--- {title}\n{sample[name].strip()[:600]}"
            for name, title in SAMPLE_PARTS.items()
            if name in sample
        )
        title = Text(f"{sample['task']}: {sample['language']}, {sample['source']}")
        console.print(Panel(Text(body), title=title, title_align="left"))
    print(f"Evaluation: {path} ({evaluation['seconds']:.0f} s)")
