"""A model ready to use: network, parameters and tokenizer, each mode of CodeT5+ in one line."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.decoding.generate import generate
from codet5p_jax.decoding.prompts import PROMPTS, Prompt
from codet5p_jax.decoding.sampling import Sample, greedy
from codet5p_jax.decoding.streaming import stream
from codet5p_jax.interop.huggingface import import_model
from codet5p_jax.interop.model_tokenizer import models_tokenizer
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.padding import padded
from codet5p_jax.retrieval.embed import embed_tokens, token_rows
from codet5p_jax.retrieval.rerank import match_probabilities
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer
from codet5p_jax.typing import PyTree

INPUT_MULTIPLE = 64  # inputs are padded to it, so that few shapes are compiled
CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of bytes that are no whole one

Tokens = Int[np.ndarray, "rows length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with its parameters and its tokenizer; see `load_model`.

    Methods take texts; `bound` takes tokens, and is where gradients and other modes start from.

    Attributes:
        model: The network.
        params: Its parameters, without the "params" level.
        tokenizer: Its tokenizer, with task tokens if the vocabulary has them.
    """

    model: CodeT5p
    params: PyTree
    tokenizer: Tokenizer

    @property
    def bound(self) -> CodeT5p:
        """The network with its parameters: ``bound.encode(tokens)``, ``bound.decode_only(...)``."""
        return self.model.bind({"params": self.params})

    def tokens(self, texts: Sequence[str], *, length: int = 512) -> Tokens:
        """Returns ``<s> text </s>`` per row, padded to the longest.

        Args:
            texts: Code or other text.
            length: Longer rows are cut to it, `</s>` kept.
        """
        rows = token_rows(texts, self.tokenizer, length=length)
        return rows[:, : int(np.sum(rows != self.tokenizer.pad_id, axis=1).max(initial=0))]

    def embed(
        self, texts: Sequence[str], *, length: int = 512
    ) -> Float[np.ndarray, "texts projection"]:
        """Returns one vector of unit norm per text; the dot product of two is their similarity.

        A model without projection gives the encoder's state at `<s>`, scaled to unit norm.

        Args:
            texts: Code or other text.
            length: Longest text in tokens; the rest is cut off.
        """
        # At full length: embed_tokens cuts each batch to one of a few lengths it is compiled for.
        rows = token_rows(texts, self.tokenizer, length=length)
        return embed_tokens(self.model, self.params, rows)

    def match(
        self, texts: Sequence[str], codes: Sequence[str], *, length: int = 512
    ) -> Float[np.ndarray, " pairs"]:
        """Returns the probability that ``texts[i]`` and ``codes[i]`` belong together.

        Args:
            texts: Descriptions.
            codes: As many pieces of code.
            length: Longest text, and longest code, in tokens; the rest is cut off.

        Raises:
            ValueError: There are more of one than of the other, or the model has no matching head.
        """
        if len(texts) != len(codes):
            raise ValueError(
                f"match got {len(texts)} texts and {len(codes)} codes; give one code per text, "
                "repeating a text that has several."
            )
        return match_probabilities(
            self.model,
            self.params,
            self.tokens(texts, length=length),
            self.tokens(codes, length=length),
            np.stack([np.arange(len(texts))] * 2, axis=1),
            match_id=self.model.config.match_id,
        )

    def generate(
        self,
        texts: Sequence[str],
        *,
        task: str = "complete",
        max_length: int = 128,
        sample: Sample = greedy,
        samples: int = 1,
        rng: jax.Array | None = None,
    ) -> list[str]:
        """Returns what the model writes for each text: all results of the first, then the next.

        Args:
            texts: What to start from.
            task: What to ask: "complete", "continue", "continue_both", "instruct", "denoise",
                "code_to_text" or "text_to_code" (decoding/prompts.py).
            max_length: New tokens at most.
            sample: Chooses each token: `greedy` or a `Sampler`.
            samples: Results per text.
            rng: Randomness for a `Sampler`.

        Raises:
            ValueError: There is no such task, or the model was not trained on it.
        """
        ask = _prompt_of(task)
        prompts = [ask(text, self.tokenizer) for text in texts]
        starts = np.repeat([len(prompt.decoder_prompt) for prompt in prompts], samples)
        generations = generate(
            self.model,
            self.params,
            padded(
                [prompt.encoder_input_tokens for prompt in prompts],
                pad_id=self.tokenizer.pad_id,
                multiple=INPUT_MULTIPLE,
            ),
            max_length=int(starts.max()) + max_length,
            sample=sample,
            prompt=padded(
                [prompt.decoder_prompt for prompt in prompts], pad_id=self.tokenizer.pad_id
            ),
            samples=samples,
            rng=rng,
        )
        rows = zip(np.asarray(generations.tokens), starts, strict=True)
        return [self._text(row[start : start + max_length].tolist()) for row, start in rows]

    def stream(
        self,
        text: str,
        *,
        task: str = "instruct",
        max_length: int = 256,
        sample: Sample = greedy,
        rng: jax.Array | None = None,
    ) -> Iterator[str]:
        """Yields what the model writes for a text, piece by piece as it is written.

        Args:
            text: What to start from.
            task: What to ask; see `generate`.
            max_length: New tokens at most.
            sample: Chooses each token: `greedy` or a `Sampler`.
            rng: Randomness for a `Sampler`.

        Raises:
            ValueError: There is no such task, or the model was not trained on it.
        """
        prompt = _prompt_of(task)(text, self.tokenizer)
        tokens: list[int] = []
        written = ""
        for token in stream(
            self.model,
            self.params,
            prompt.encoder_input_tokens,
            prompt=prompt.decoder_prompt,
            max_new_tokens=max_length,
            sample=sample,
            rng=rng,
        ):
            tokens.append(token)
            whole = self._text(tokens)
            if not whole.endswith(CUT_CHARACTER):  # its other bytes are in the next token
                yield whole[len(written) :]
                written = whole
        yield self._text(tokens)[len(written) :]

    def _text(self, tokens: Sequence[int]) -> str:
        """Text of `tokens`; sentinels, which denoising answers with, are shown."""
        dropped = {self.tokenizer.pad_id, self.tokenizer.bos_id, self.tokenizer.eos_id}
        kept = [token for token in tokens if token not in dropped]
        return self.tokenizer.decode(kept, skip_special_tokens=False)


def _prompt_of(task: str) -> Callable[[str, Tokenizer], Prompt]:
    if task not in PROMPTS:
        raise ValueError(f"There is no task {task!r}; it is one of {', '.join(PROMPTS)}.")
    return PROMPTS[task]


def load_model(
    folder: str | os.PathLike,
    *,
    step: int | None = None,
    tokenizer_dir: str | os.PathLike | None = None,
) -> LoadedModel:
    """Returns the model in a MODEL_DIR, or in a folder in Hugging Face format.

    Example: ``load_model("runs/quickstart/stage2").embed(["def add(a, b): return a + b"])``.

    Args:
        folder: MODEL_DIR of a run or an import; or an export, a released model.
        step: Checkpoint of the MODEL_DIR; None is the newest.
        tokenizer_dir: Tokenizer of the MODEL_DIR, where it no longer lies where training found it.

    Raises:
        FileNotFoundError: There is no such checkpoint, no weights or no tokenizer.
        ValueError: Model and tokenizer do not fit together, or an export was asked for a step.
    """
    if (pathlib.Path(folder) / "config.json").exists():
        if step is not None:
            raise ValueError(
                f"{folder} is in Hugging Face format, which has no steps; leave step={step} out, "
                "or give the MODEL_DIR."
            )
        params, config = import_model(folder)
        tokenizer = load_tokenizer(pathlib.Path(tokenizer_dir or folder))
    else:
        checkpoint = load_checkpoint(folder, step=step, tokenizer_dir=tokenizer_dir)
        params, config = dict(checkpoint.params), checkpoint.config
        tokenizer = checkpoint.tokenizer
    return LoadedModel(
        model=CodeT5p(config),
        params=jax.tree.map(jnp.asarray, params),
        tokenizer=models_tokenizer(tokenizer, config),
    )
