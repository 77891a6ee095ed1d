"""`codet5p infer`: prints what a model generates for a text or a file."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import jax

from codet5p_jax.cli.eval import positive
from codet5p_jax.cli.printable import shown
from codet5p_jax.decoding.prompts import PROMPTS
from codet5p_jax.decoding.sampling import Sample, Sampler, greedy
from codet5p_jax.loaded_model import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p infer` to `parser`."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model_dir", metavar="DIR", help="MODEL_DIR of a run")
    model.add_argument("--export", metavar="DIR", help="folder in Hugging Face format")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the newest)")
    parser.add_argument("--tokenizer_dir", metavar="DIR", help="tokenizer of --model_dir, if moved")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", action="append", help="what to start from; repeatable")
    text.add_argument("--file", metavar="PATH", help="the same from a file; - is standard input")
    parser.add_argument(
        "--task",
        choices=tuple(PROMPTS),
        default="complete",
        help="what to ask of the model (default: %(default)s, which goes on where the text ends)",
    )
    parser.add_argument(
        "--max_length", type=positive, default=128, help="new tokens at most (default: %(default)s)"
    )
    parser.add_argument("--samples", type=positive, default=1, help="results per text (default: 1)")
    add_sampling_arguments(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how tokens are chosen to `parser`; `sampler` reads it."""
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0, the default, takes the likeliest token"
    )
    parser.add_argument("--top_k", type=int, help="draw among this many tokens only")
    parser.add_argument("--top_p", type=float, help="draw among the likeliest of this probability")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    """Prints each text's results, with a heading where there are several."""
    if arguments.samples > 1 and arguments.temperature == 0:
        raise ValueError(
            "--samples draws tokens, but --temperature is 0, which takes the likeliest. Add for "
            "example --temperature=0.8."
        )
    sample = sampler(arguments)
    texts = arguments.text or [_read(arguments.file)]
    loaded = load_model(
        arguments.export or arguments.model_dir,
        step=arguments.step,
        tokenizer_dir=arguments.tokenizer_dir,
    )
    rng = jax.random.key(arguments.seed)
    for i, text in enumerate(texts):
        results = loaded.generate(
            [text],
            task=arguments.task,
            max_length=arguments.max_length,
            sample=sample,
            samples=arguments.samples,
            rng=jax.random.fold_in(rng, i),
        )
        _print(text, results, headings=len(texts) > 1 or len(results) > 1)


def sampler(arguments: argparse.Namespace) -> Sample:
    """Returns what chooses tokens.

    Raises:
        ValueError: A flag of drawing is given, but nothing is drawn, or is out of its range.
    """
    if arguments.temperature == 0:
        if arguments.top_k is not None or arguments.top_p is not None:
            raise ValueError(
                "--top_k and --top_p draw tokens, but --temperature is 0, which takes the "
                "likeliest. Add for example --temperature=0.8."
            )
        return greedy
    return Sampler(temperature=arguments.temperature, top_k=arguments.top_k, top_p=arguments.top_p)


def _read(path: str) -> str:
    return sys.stdin.read() if path == "-" else pathlib.Path(path).read_text(encoding="utf-8")


def _print(text: str, results: Sequence[str], *, headings: bool) -> None:
    for number, result in enumerate(results, 1):
        if headings:
            first = text.strip().splitlines()[0][:60] if text.strip() else ""
            print(shown(f"--- {first} [{number}]"))
        print(shown(result))
