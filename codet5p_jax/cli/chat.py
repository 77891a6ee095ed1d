"""`codet5p chat`: ask a model in a terminal; its answer appears as it is written."""

import argparse
import io
import sys
from collections.abc import Callable, Iterator

import jax

from codet5p_jax.cli.eval import positive
from codet5p_jax.cli.infer import add_sampling_arguments, sampler
from codet5p_jax.cli.printable import shown
from codet5p_jax.loaded_model import LoadedModel, load_model

QUIT = ("/quit", "/exit")
HELP = (
    "Each message is an instruction of its own: the model remembers none before it. A line that "
    "ends with \\ goes on in the next. Ctrl-C stops an answer, and at the prompt ends, as /quit "
    "and Ctrl-D do; /help says this again."
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
        "--max_length", type=positive, default=256, help="new tokens at most (default: %(default)s)"
    )
    parser.add_argument(
        "--max_message",
        type=positive,
        default=2048,
        metavar="TOKENS",
        help="longest message; memory grows with its square (default: %(default)s)",
    )
    add_sampling_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Answers each message until the input ends.

    Raises:
        ValueError: The model has no decoder; or a message that was not typed cannot be asked.
    """
    if sys.stdin is None:
        raise ValueError("codet5p chat reads messages from standard input, which is closed.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    sample = sampler(arguments)
    loaded = load_model(arguments.model, step=arguments.step, tokenizer_dir=arguments.tokenizer_dir)
    if not loaded.model.config.num_decoder_layers:
        raise ValueError(
            f"{arguments.model} holds an encoder alone, which embeds and answers nothing. Give a "
            "model with a decoder."
        )
    interactive = sys.stdin.isatty()
    if interactive:
        print(f"{arguments.model}: {loaded.model.config.num_parameters():,} parameters. {HELP}")
    rng = jax.random.key(arguments.seed)
    for number, message in enumerate(_messages(sys.stdin.readline, interactive=interactive)):
        if problem := _problem(message, loaded, arguments.max_message):
            if not interactive:
                raise ValueError(f"Message {number + 1} {problem}")
            print(f"(not asked: the message {problem})")
            continue
        pieces = loaded.stream(
            message,
            task=arguments.task,
            max_length=arguments.max_length,
            sample=sample,
            rng=jax.random.fold_in(rng, number),
        )
        _answer(pieces, interactive=interactive)


def _problem(message: str, loaded: LoadedModel, most: int) -> str | None:
    """Returns what is wrong with a message, or None."""
    try:
        message.encode("utf-8")
    except UnicodeEncodeError:
        return "is no text in UTF-8."
    tokens = len(loaded.tokenizer.encode(message))
    if tokens > most:
        return f"has {tokens:,} tokens; --max_message is {most:,}."
    return None


def _messages(read_line: Callable[[], str], *, interactive: bool) -> Iterator[str]:
    """Yields each message; lines that end with a backslash are joined."""
    parts: list[str] = []
    while True:
        if interactive:
            print("... " if parts else ">>> ", end="", flush=True)
        line = read_line()
        if not line:
            break
        text = line.removesuffix("\n").removesuffix("\r")
        if not parts and text.strip() in QUIT:
            return
        if interactive and not parts and text.strip() == "/help":
            print(HELP)
            continue
        parts.append(text.removesuffix("\\"))
        if text.endswith("\\"):
            continue
        message, parts = "\n".join(parts), []
        if message.strip():
            yield message
    if parts:
        yield "\n".join(parts)


def _answer(pieces: Iterator[str], *, interactive: bool) -> None:
    written = 0
    try:
        for piece in pieces:
            print(shown(piece), end="", flush=True)
            written += len(piece.strip())
        if interactive and not written:
            print("(no answer)", end="")
    except KeyboardInterrupt:
        print(" (stopped)", end="")
    print(flush=True)
