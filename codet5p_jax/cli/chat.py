"""`codet5p chat`: ask a model in a terminal; its answer appears as it is written."""

import argparse
import sys
from collections.abc import Callable, Iterator

import jax

from codet5p_jax.cli.infer import add_sampling_arguments, sampler
from codet5p_jax.loaded_model import load_model

QUIT = ("/quit", "/exit")
HELP = (
    "Each message is an instruction of its own: the model remembers none before it. A line that "
    "ends with \\ goes on in the next. Ctrl-C stops an answer; /quit or Ctrl-D ends."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p chat` to `parser`."""
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="MODEL_DIR, or folder in Hugging Face format"
    )
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the newest)")
    parser.add_argument("--tokenizer_dir", metavar="DIR", help="tokenizer of a MODEL_DIR, if moved")
    parser.add_argument(
        "--task",
        choices=("instruct", "continue_both", "continue", "complete"),
        default="instruct",
        help="what a message is (default: %(default)s; the others take it as the start of a file)",
    )
    parser.add_argument(
        "--max_length", type=int, default=256, help="new tokens at most (default: %(default)s)"
    )
    add_sampling_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Answers each message until the input ends."""
    sample = sampler(arguments)
    loaded = load_model(arguments.model, step=arguments.step, tokenizer_dir=arguments.tokenizer_dir)
    interactive = sys.stdin.isatty()
    if interactive:
        print(f"{arguments.model}: {loaded.model.config.num_parameters():,} parameters. {HELP}")
    rng = jax.random.key(arguments.seed)
    for number, message in enumerate(_messages(sys.stdin.readline, interactive=interactive)):
        pieces = loaded.stream(
            message,
            task=arguments.task,
            max_length=arguments.max_length,
            sample=sample,
            rng=jax.random.fold_in(rng, number),
        )
        _answer(pieces)


def _messages(read_line: Callable[[], str], *, interactive: bool) -> Iterator[str]:
    """Yields each message; lines that end with a backslash are joined."""
    parts: list[str] = []
    while True:
        if interactive:
            print("... " if parts else ">>> ", end="", flush=True)
        line = read_line()
        if not line:
            break
        text = line.rstrip("\n")
        if not parts and text.strip() in QUIT:
            return
        parts.append(text.removesuffix("\\"))
        if text.endswith("\\"):
            continue
        message, parts = "\n".join(parts), []
        if message.strip():
            yield message
    if parts:
        yield "\n".join(parts)


def _answer(pieces: Iterator[str]) -> None:
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" (stopped)", end="")
    print(flush=True)
