"""A CodeT5+ of two language models, as the paper's 2B, 6B and 16B began (section 3.3)."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from flax import linen as nn
from flax import traverse_util

from codet5p_jax.interop.halves import Half, read_half
from codet5p_jax.models.codet5p import abstract_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.decoder_only_config import INITIAL_STDDEV
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer

SHOWN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joined:
    """A CodeT5+ that is to be made of two folders; `params` reads and draws its numbers.

    Attributes:
        encoder: What its encoder is.
        decoder: What its decoder is.
        config: Its shape.
        tokenizer: Its tokenizer.
        seed: Of what is drawn.
    """

    encoder: Half
    decoder: Half
    config: EncoderDecoderConfig
    tokenizer: Tokenizer
    seed: int

    @property
    def new_rows(self) -> Mapping[str, int]:
        """Side -> rows of its vocabulary that it has no numbers for."""
        halves = (self.encoder, self.decoder)
        return {half.side: self.config.vocab_size - half.config.vocab_size for half in halves}

    @property
    def origin(self) -> dict[str, Any]:
        """Where the parameters come from, as JSON values for the checkpoint's metadata."""
        halves = {
            half.side: {
                "name": half.folder.resolve().name,
                "architecture": half.family.architecture,
                "layout": half.layout,
                "new_rows": self.new_rows[half.side],
            }
            for half in (self.encoder, self.decoder)
        }
        return {**halves, "seed": self.seed}

    def params(self) -> dict[str, Any]:
        """Returns the parameters, a nested dict of arrays.

        What a language model brings to the decoder, which training freezes, is bfloat16; all else
        is float32. New kernels are drawn from N(0, 0.02), new biases are 0.

        Raises:
            ValueError: The tensors of a half do not fit its config, or are not finite.
        """
        frozen = not isinstance(self.decoder.config, T5Config)
        params = {
            "encoder": self.encoder.params(vocab_size=self.config.vocab_size),
            "decoder": self.decoder.params(
                dtype=ml_dtypes.bfloat16 if frozen else np.float32,
                vocab_size=self.config.vocab_size,
                cross_attention_layers=self.config.cross_attention_layers if frozen else 0,
            ),
        }
        flat = traverse_util.flatten_dict(params, sep="/")
        rng = np.random.default_rng(self.seed)
        shapes = traverse_util.flatten_dict(nn.unbox(abstract_params(self.config)), sep="/")
        for path, leaf in sorted(shapes.items()):
            if path not in flat:
                flat[path] = _drawn(path, leaf.shape, rng)
            assert flat[path].shape == leaf.shape, path
        return traverse_util.unflatten_dict(flat, sep="/")


def _drawn(path: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    assert path.startswith("encoder_to_decoder/") or "/cross_attention/" in path, path
    if path.endswith("/bias"):
        return np.zeros(shape, np.float32)
    drawn = rng.standard_normal(shape, np.float32)
    drawn *= INITIAL_STDDEV
    return drawn


def join(
    encoder: str | os.PathLike,
    decoder: str | os.PathLike,
    *,
    cross_attention_layers: int = 1,
    tokenizer: str | os.PathLike | None = None,
    seed: int = 0,
) -> Joined:
    """Returns a CodeT5+ of the language models in two folders; no numbers are read yet.

    Args:
        encoder: Folder in Hugging Face format of a CodeGen, a Llama, or a T5, of which the encoder
            is taken.
        decoder: The same; of a T5 the decoder is taken, with its own cross-attention.
        cross_attention_layers: Layers of a CodeGen or Llama, from the top, that gain
            cross-attention.
        tokenizer: Folder of a tokenizer, where neither of the two holds one; else one that must
            be theirs.
        seed: Of what is drawn.

    Raises:
        FileNotFoundError: A folder lacks config.json or weights, or there is no tokenizer, or none
            in the folder given for it.
        ValueError: A model is of no class supported here, tokenizers differ, or there are not as
            many layers, or the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"The seed is {seed}; it must be 0 or more.")
    halves = {"encoder": read_half(encoder, "encoder"), "decoder": read_half(decoder, "decoder")}
    places = [half.folder for half in halves.values()]
    if tokenizer is not None:
        places.append(pathlib.Path(tokenizer))
        load_tokenizer(places[-1])  # raises if the one that was asked for is not there
    found = agreed_tokenizer(places)
    rows = max(found.vocab_size, *(half.config.vocab_size for half in halves.values()))
    config = EncoderDecoderConfig(
        **{  # type: ignore[arg-type]  # mypy takes the values of a dict for all of the fields
            side: dataclasses.replace(half.config, vocab_size=rows) for side, half in halves.items()
        },
        cross_attention_layers=cross_attention_layers,
        pad_id=found.pad_id,
        start_id=found.start_id,
        eos_id=found.eos_id,
        clm_id=found.clm_id,
        match_id=found.match_id,
    )
    return Joined(**halves, config=config, tokenizer=found, seed=seed)


def agreed_tokenizer(folders: Sequence[pathlib.Path]) -> Tokenizer:
    """Returns the tokenizer of those folders that have one, with its task tokens.

    Raises:
        FileNotFoundError: None of them has one.
        ValueError: Two of them differ; the message says in what.
    """
    found: dict[pathlib.Path, Tokenizer] = {}
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # it has none
            found[folder] = load_tokenizer(folder).with_task_tokens()
    if not found:
        raise FileNotFoundError(
            f"There is no tokenizer in {' or '.join(map(str, folders))}: expected tokenizer.json, "
            "or vocab.json and merges.txt. Give the models' tokenizer with --tokenizer=DIR."
        )
    (first, tokenizer), *others = found.items()
    for folder, other in others:
        if other.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"The tokenizers of {first} and {folder} differ, so their ids mean different text: "
                f"{_difference(tokenizer, other)}. Both halves must have been trained with the "
                "same one."
            )
    return tokenizer


def _difference(one: Tokenizer, other: Tokenizer) -> str:
    if type(one) is not type(other):
        return f"one is a {type(one).__name__}, the other a {type(other).__name__}"
    ours, theirs = one.entries, other.entries
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        shown = ", ".join(repr(entry) for entry in alone[:SHOWN])
        return (
            f"they have {len(ours):,} and {len(theirs):,} entries, of which {len(alone):,} are in "
            f"one alone ({shown}{', ...' if len(alone) > SHOWN else ''})"
        )
    moved = [entry for entry, index in ours.items() if theirs[entry] != index]
    if moved:
        entry = moved[0]
        return (
            f"{len(moved):,} of {len(ours):,} entries have other ids ({entry!r} is {ours[entry]} "
            f"and {theirs[entry]})"
        )
    return "they have the same entries, but other merges or another way to cut text into words"
