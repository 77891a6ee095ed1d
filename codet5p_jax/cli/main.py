"""The console script `codet5p`: picks a subcommand and imports only what it needs."""

import argparse
import difflib
import importlib
import os
import select
import signal
import sys
import types
from collections.abc import Iterable, Sequence

from codet5p_jax.cli import huge_pages, quiet

COMMANDS = {  # name -> (module, what it does)
    "pretrain": ("pretrain", "the main job: corpus, tokenizer, both stages, evaluation, export"),
    "corpus": ("corpus", "build a corpus from source code, show and inspect it"),
    "tokenizer": ("tokenizer", "train the tokenizer on a corpus"),
    "cache": ("cache", "tokenise a corpus once, into SeqIO's offline cache"),
    "data": ("data", "print examples of a task, decoded; make instructions"),
    "init": ("init", "make a CodeT5+ of two language models, to train"),
    "train": ("train", "train a model from gin files"),
    "eval": ("eval", "evaluate a model on held-out data"),
    "eval_files": ("eval_files", "evaluate language modeling and completion on held-out files"),
    "ablate": ("ablate", "compare variants of a recipe with it, over several seeds"),
    "precompile": ("precompile", "compile a recipe for a TPU topology, without a TPU"),
    "infer": ("infer", "generate from prompts"),
    "chat": ("chat", "ask a model in the terminal"),
    "export": ("export", "write a checkpoint in Hugging Face format"),
    "import": ("import_", "read a model in Hugging Face format"),
    "verify": ("verify", "compare an export with transformers"),
    "report": ("report", "draw a run into one HTML page"),
    "doctor": ("doctor", "check installation, machine and folders, and say how to mend them"),
}
# These import TensorFlow.
READS_TASKS = {"tokenizer", "cache", "data", "train", "precompile", "eval", "eval_files", "ablate"}
# Their flags lie in NAME_flags, which imports no JAX: what is wrong with them is said at once.
FLAGS_APART = {"train", "precompile"}
RUNS_MODELS = {"pretrain", "train", "eval", "eval_files", "ablate"}  # start with huge pages


class UsageError(ValueError):
    """A command line that cannot be run; the message says what to write instead."""


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong with a command line, where argparse would exit."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}. See: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one subcommand and exits with its code; a user's mistake is one line and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and RUNS_MODELS.intersection(words[:1]):
        huge_pages.restart_with_huge_pages()
    try:
        code = _run(words) or 0
        if sys.stdout:  # it may be closed
            sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError as error:
        _end_quietly(error)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        _fail(error)
    except KeyboardInterrupt:
        print("codet5p: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not type(error).__module__.startswith("codet5p_jax"):
            raise
        _fail(error)


def _end_quietly(error: BrokenPipeError) -> None:
    """Exits as a program does whose reader has gone, such as `head`; fails for other pipes."""
    standard_output = select.poll()
    standard_output.register(sys.stdout.fileno(), 0)  # that its reader is gone is always told
    if any(event & select.POLLERR for _, event in standard_output.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
        sys.exit(128 + signal.SIGPIPE)
    _fail(error)


def _fail(error: Exception) -> None:
    if os.environ.get("CODET5P_TRACEBACK"):
        raise error
    message = str(error).partition("\n  In call to configurable")[0]  # gin says where, at length
    print(f"codet5p: error: {message}", file=sys.stderr)
    print("(set CODET5P_TRACEBACK=1 to see where it was raised)", file=sys.stderr)
    sys.exit(2)


def _run(words: list[str]) -> int | None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    name, *rest = words
    if name == "--version":
        from codet5p_jax import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(COMMANDS)}."
        raise UsageError(f"unknown command {name!r}. {hint}")
    if name in READS_TASKS:
        quiet.hide_warnings_of_libraries()
    flags = flags_module(name)
    parser = _Parser(prog=f"codet5p {name}", description=COMMANDS[name][1], allow_abbrev=False)
    flags.add_arguments(parser)
    parsed = _parse(parser, as_bindings(rest))
    if hasattr(flags, "check_arguments"):
        flags.check_arguments(parsed)
    module = importlib.import_module(f"codet5p_jax.cli.{COMMANDS[name][0]}")
    quiet.errors_only()
    if name in READS_TASKS:
        quiet.import_quietly()
    return module.run(parsed)


def flags_module(name: str) -> types.ModuleType:
    """Returns the module with the add_arguments of a command and, where there is one, the check.

    Args:
        name: Of COMMANDS.
    """
    apart = "_flags" if name in FLAGS_APART else ""
    return importlib.import_module(f"codet5p_jax.cli.{COMMANDS[name][0]}{apart}")


def as_bindings(words: Iterable[str]) -> list[str]:
    """Returns a command line with each --gin.NAME=VALUE written as --gin_bindings=NAME=VALUE."""
    flag = "--gin."
    return [
        f"--gin_bindings={word.removeprefix(flag)}" if word.startswith(flag) else word
        for word in words
    ]


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        parser = _chosen(parser, words)
        flags = [flag for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(unknown[0].split("=")[0], flags, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"See: {parser.prog} --help"
        raise UsageError(f"unknown argument {unknown[0]!r}. {hint}")
    return namespace


def _chosen(parser: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    """Returns the parser of the subcommand that a command line names, if any; else the given."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return next((action.choices[word] for word in words if word in action.choices), parser)
    return parser


def _usage() -> str:
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: codet5p COMMAND [ARGUMENT ...]",
            "",
            "Pretraining of CodeT5+ in JAX. Commands:",
            *lines,
            "",
            "codet5p COMMAND --help tells more.",
        ]
    )


if __name__ == "__main__":
    main()
