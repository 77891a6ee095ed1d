"""`codet5p verify`: is an export, loaded with transformers, the model it was made from?"""

import argparse
import pathlib
import time
from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.cli.results import results_console
from codet5p_jax.decoding.generate import generate
from codet5p_jax.interop.folders import write_json
from codet5p_jax.interop.model_tokenizer import models_tokenizer
from codet5p_jax.interop.transformers_model import TransformersModel
from codet5p_jax.interop.verification import TOLERANCE, Comparison, Verdict, verify
from codet5p_jax.models.codet5p import CodeT5p, language_model_paths
from codet5p_jax.models.decoder_only import DecoderOnlyDecoder, language_model_params
from codet5p_jax.models.encoder_decoder import ModelConfig, with_execution_fields
from codet5p_jax.models.masks import decoder_mask
from codet5p_jax.typing import PyTree

LOG_WIDTH = 120  # the table of a bimodal model needs 91
Tokens = Int[np.ndarray, "batch length"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p verify` to `parser`."""
    parser.add_argument("--export", required=True, metavar="DIR", help="folder of the export")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="MODEL_DIR it came from")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the newest)")
    parser.add_argument(
        "--tokenizer_dir", metavar="DIR", help="tokenizer (default: where training found it)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest difference, relative to the largest number (default: %(default)s)",
    )
    parser.add_argument(
        "--max_length", type=int, default=32, help="tokens to generate (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints a table, writes verification.json into the export, and returns 1 if they differ."""
    theirs = TransformersModel(arguments.export)
    checkpoint = load_checkpoint(
        arguments.model_dir, step=arguments.step, tokenizer_dir=arguments.tokenizer_dir
    )
    _check_architecture(checkpoint.config, theirs, arguments)
    verdict = verify(
        OurModel(checkpoint.params, checkpoint.config),
        theirs,
        tokenizer=models_tokenizer(checkpoint.tokenizer, checkpoint.config),
        their_tokenizer=theirs,
        problems=theirs.problems,
        max_length=arguments.max_length,
        tolerance=arguments.tolerance,
    )
    print_verdict(verdict, results_console(LOG_WIDTH))
    write_json(
        pathlib.Path(arguments.export) / "verification.json",
        {
            **verdict.to_dict(),
            "format": theirs.format.name,
            "model_dir": str(arguments.model_dir),
            "step": checkpoint.step,
            "versions": {**theirs.versions, "jax": jax.__version__},
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )
    return 0 if verdict.passed else 1


def _check_architecture(
    config: ModelConfig, theirs: TransformersModel, arguments: argparse.Namespace
) -> None:
    if not isinstance(config, theirs.format.holds):
        raise ValueError(
            f"{arguments.export} is of another architecture than {arguments.model_dir}: it holds "
            f"{theirs.format.description}, and {type(config).__name__} describes the model of the "
            "checkpoint. Give the MODEL_DIR that it was exported from."
        )


@final
class OurModel:
    """A model of ours in float32, for comparison; see `interop.verification.Model`.

    Attributes:
        does: What it can be asked for: "generate", "embed", "match".
    """

    def __init__(self, params: PyTree, config: ModelConfig):
        """Puts `params` on the device; execution options of the config that round are undone."""
        config = with_execution_fields(config, dtype=jnp.float32)
        self._model = CodeT5p(config)
        self._params = jax.tree.map(jnp.asarray, params)
        self._apply = jax.jit(self._model.apply, static_argnames="method")
        self._vocab_size = config.vocab_size
        can = {
            "generate": config.num_decoder_layers > 0,
            "continue": bool(language_model_paths(config, params)),
            "embed": config.projection_dim is not None,
            "match": config.matching_head,
        }
        self.does = frozenset(what for what, possible in can.items() if possible)

    def token_embeddings(self) -> Mapping[str, Float[np.ndarray, "vocab width"]]:
        """Returns the token embedding of each side; a T5 has one for both."""
        sides = ("encoder", "decoder") if "generate" in self.does else ("encoder",)
        params = self._params
        embedders = {side: params.get("token_embedder") or params[side]["token_embedder"]
                     for side in sides}  # fmt: skip
        return {
            side: np.asarray(embedder["embedding"])[: self._vocab_size]
            for side, embedder in embedders.items()
        }

    def logits(
        self, encoder_input_tokens: Tokens, decoder_input_tokens: Int[np.ndarray, "batch targets"]
    ) -> Float[np.ndarray, "batch targets vocab"]:
        """Returns the logits at every decoder position, without the padding of the vocabulary."""
        logits = self._run(encoder_input_tokens, decoder_input_tokens)
        return logits[..., : self._vocab_size]

    def greedy(self, encoder_input_tokens: Tokens, *, max_length: int) -> list[list[int]]:
        """Returns each row's likeliest tokens, up to and with `</s>`."""
        with jax.default_matmul_precision("highest"):
            generated = generate(
                self._model, self._params, encoder_input_tokens, max_length=max_length
            )
        rows = zip(generated.tokens.tolist(), generated.lengths.tolist(), strict=True)
        return [tokens[:length] for tokens, length in rows]

    def language_model_logits(self, tokens: Tokens) -> Float[np.ndarray, "batch length vocab"]:
        """Returns the logits of the decoder without encoder and cross-attention."""
        config: Any = self._model.config  # of a decoder-only decoder: else it cannot continue
        model = DecoderOnlyDecoder(config.decoder)
        params = {"params": language_model_params(self._params["decoder"])}
        with jax.default_matmul_precision("highest"):
            hidden: Any = model.apply(params, jnp.asarray(tokens), mask=decoder_mask())[0]
            logits = model.apply(params, hidden, method="logits")
        return np.asarray(logits)[..., : self._vocab_size]

    def embed(self, tokens: Tokens) -> Float[np.ndarray, "batch projection"]:
        """Returns one vector of unit norm per row."""
        return self._run(tokens, method="embed")

    def match(
        self, text_tokens: Tokens, code_tokens: Int[np.ndarray, "batch code"]
    ) -> Float[np.ndarray, "batch 2"]:
        """Returns the scores (no match, match) of each pair of rows."""
        return self._run(text_tokens, code_tokens, method="match")

    def _run(self, *tokens: np.ndarray, method: str = "__call__") -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            return np.asarray(
                self._apply({"params": self._params}, *map(jnp.asarray, tokens), method=method)
            )


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Prints one row per input, what was wrong on loading, and the verdict."""
    table = Table(title="Export in transformers against our model")
    table.add_column("input", no_wrap=True)
    columns = ("tokens", "padding", *verdict.worst)
    generates = any(comparison.generated is not None for comparison in verdict.comparisons)
    for column in (*columns, *(["generated"] if generates else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for comparison in verdict.comparisons:
        good = comparison.passed(verdict.tolerance)
        table.add_row(*_cells(comparison), style=None if good else "bold red")
    console.print(table)
    for note in filter(None, map(_note, verdict.comparisons)):
        console.print(note, markup=False)
    for problem in verdict.problems:
        console.print(f"Wrong: {problem}", style="bold red", markup=False)
    worst = ", ".join(f"{name} {value:.1e}" for name, value in verdict.worst.items())
    console.print(
        f"{'PASSED' if verdict.passed else 'FAILED'}: largest relative differences: "
        f"{worst or 'nothing was compared'}; allowed {verdict.tolerance:.0e}",
        style="bold green" if verdict.passed else "bold red",
        highlight=False,
    )


def _cells(comparison: Comparison) -> tuple[str, ...]:
    generated: tuple[str, ...] = ()
    if comparison.generated is not None:
        generated = (f"{comparison.agreeing}/{comparison.generated} equal",)
    return (
        repr(comparison.text[:16]).replace("[", "\\["),  # no markup of rich
        str(comparison.tokens),
        str(comparison.padding),
        *(f"{difference.relative:.1e}" for difference in comparison.differences.values()),
        *generated,
    )


def _note(comparison: Comparison) -> str | None:
    notes = [f"tokenizer: {comparison.tokenizer}"] if comparison.tokenizer else []
    if comparison.tie:
        notes.append(f"generation, at token {comparison.agreeing}: {comparison.tie}")
    return f"{comparison.text[:16]!r}: {'; '.join(notes)}" if notes else None
