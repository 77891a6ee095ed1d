"""An export as transformers sees it: loaded with torch on the CPU, in float32."""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

Tokens = Int[np.ndarray, "batch length"]


@final
class TransformersModel:
    """T5ForConditionalGeneration and its tokenizer from a folder; see `verification.Model`.

    Attributes:
        problems: What transformers reported on loading, such as missing or unexpected tensors.
        versions: Name -> version of torch and transformers.
    """

    def __init__(self, folder: str | os.PathLike):
        """Loads the folder.

        Raises:
            ModuleNotFoundError: torch or transformers is not installed.
            FileNotFoundError: `folder` holds no config.json.
        """
        torch, transformers = _import_libraries()
        folder = pathlib.Path(folder)
        if not (folder / "config.json").exists():
            raise FileNotFoundError(
                f"{folder} holds no config.json; expected an export. Write one with "
                "`codet5p export --model_dir=MODEL_DIR --out=DIR`."
            )
        self.versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, output_loading_info=True
        )
        self.problems = [f"{kind}: {name}" for kind, names in info.items() for name in names]
        self._model = model.float().eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._torch = torch

    def logits(
        self, encoder_input_tokens: Tokens, decoder_input_tokens: Int[np.ndarray, "batch targets"]
    ) -> Float[np.ndarray, "batch targets vocab"]:
        """Returns the logits at every decoder position; encoder padding is masked."""
        with self._torch.no_grad():
            inputs = self._inputs(encoder_input_tokens)
            return self._model(
                **inputs, decoder_input_ids=self._tensor(decoder_input_tokens)
            ).logits.numpy()

    def greedy(
        self,
        encoder_input_tokens: Tokens,
        *,
        max_length: int,
        prompt: Sequence[int] = (),
    ) -> list[list[int]]:
        """Returns each row's likeliest tokens behind `prompt`, up to and with `</s>`.

        The prompt, equal for all rows, is part of the result; the decoder start is not.
        """
        start = [[0, *prompt]] * len(encoder_input_tokens)
        generated = self._model.generate(
            **self._inputs(encoder_input_tokens),
            decoder_input_ids=self._tensor(np.array(start)),
            max_new_tokens=max_length - len(prompt),
            do_sample=False,
            num_beams=1,
        )
        return [_until_eos(row[1:], len(prompt)) for row in generated.tolist()]

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Returns the ids of `text`, between `<s>` and `</s>` with `special_tokens`."""
        return self._tokenizer(text, add_special_tokens=special_tokens).input_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`."""
        return self._tokenizer.decode(list(ids))

    def _inputs(self, tokens: Tokens) -> dict[str, Any]:
        ids = self._tensor(tokens)
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}

    def _tensor(self, tokens: Tokens) -> Any:
        return self._torch.from_numpy(tokens.astype(np.int64))


def _until_eos(tokens: list[int], start: int, eos_id: int = 2) -> list[int]:
    """Cuts behind the first `</s>` that is generated, not prompted."""
    if eos_id not in tokens[start:]:
        return tokens
    return tokens[: tokens.index(eos_id, start) + 1]


def _import_libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Comparing with transformers needs {error.name}, which is not installed: "
            f"{sys.executable} -m pip install 'codet5p_jax[hf]'"
        ) from error
    return torch, transformers
