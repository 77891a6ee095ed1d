"""An export as transformers sees it: loaded with torch on the CPU, in float32."""

import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.interop.formats import Format
from codet5p_jax.interop.huggingface import format_of, read_config

Tokens = Int[np.ndarray, "batch length"]


@final
class TransformersModel:
    """The model and the tokenizer of a folder; see `verification.Model`.

    Attributes:
        does: What it can be asked for; see `Format`.
        format: The format of the folder.
        problems: What transformers reported on loading, such as missing or unexpected tensors.
        versions: Name -> version of torch and transformers.
    """

    def __init__(self, folder: str | os.PathLike):
        """Loads the folder.

        Raises:
            ModuleNotFoundError: torch or transformers is not installed.
            FileNotFoundError: `folder` holds no config.json.
            ValueError: It is of no format known here, or carries code that is not ours.
        """
        torch, transformers = _import_libraries()
        folder = pathlib.Path(folder)
        if not (folder / "config.json").exists():
            raise FileNotFoundError(
                f"{folder} holds no config.json; expected an export. Write one with "
                "`codet5p export --model_dir=MODEL_DIR --out=DIR`."
            )
        contents = read_config(folder)
        self.format = format_of(folder, contents)
        self.does = self.format.does
        _check_code(folder, self.format)
        self.versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        # Of the tokenizer too: it reads the config, and without trust asks on the terminal.
        trusted = bool(self.format.model_files)
        with _without_progress_bars(transformers.utils.logging):
            model, info = getattr(transformers, self.format.auto_class).from_pretrained(
                folder, output_loading_info=True, trust_remote_code=trusted
            )
        self.problems = [f"{kind}: {name}" for kind, names in info.items() for name in names]
        self._model = model.float().eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trusted
        )
        self._torch = torch
        self._pad_id = contents.get("pad_token_id", 0)
        self._start_id = contents.get("decoder_start_token_id", self._pad_id)
        self._eos_id = contents["eos_token_id"]

    def token_embeddings(self) -> Mapping[str, Float[np.ndarray, "vocab width"]]:
        """Returns the token embedding of each side."""
        if "continue" in self.does:
            return {"decoder": self._model.get_input_embeddings().weight.detach().numpy()}
        sides = ("encoder", "decoder") if "generate" in self.does else ("encoder",)
        tables = {side: getattr(self._model, side).get_input_embeddings() for side in sides}
        return {side: table.weight.detach().numpy() for side, table in tables.items()}

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
        start = [[self._start_id, *prompt]] * len(encoder_input_tokens)
        generated = self._model.generate(
            **self._inputs(encoder_input_tokens),
            decoder_input_ids=self._tensor(np.array(start)),
            max_new_tokens=max_length - len(prompt),
            do_sample=False,
            num_beams=1,
        )
        return [_until_eos(row[1:], len(prompt), self._eos_id) for row in generated.tolist()]

    def language_model_logits(self, tokens: Tokens) -> Float[np.ndarray, "batch length vocab"]:
        """Returns the logits at every position; padding is at the end, in nobody's past."""
        with self._torch.no_grad():
            return self._model(input_ids=self._tensor(tokens)).logits.numpy()

    def embed(self, tokens: Tokens) -> Float[np.ndarray, "batch projection"]:
        """Returns one vector of unit norm per row."""
        embed = getattr(self._model, "embed", self._model)  # the embedding model does nothing else
        with self._torch.no_grad():
            return embed(**self._inputs(tokens)).numpy()

    def match(
        self, text_tokens: Tokens, code_tokens: Int[np.ndarray, "batch code"]
    ) -> Float[np.ndarray, "batch 2"]:
        """Returns the scores (no match, match) of each pair of rows."""
        text, code = self._inputs(text_tokens), self._inputs(code_tokens)
        with self._torch.no_grad():
            return self._model.match(
                **text, code_ids=code["input_ids"], code_attention_mask=code["attention_mask"]
            ).numpy()

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Returns the ids of `text`, between `<s>` and `</s>` with `special_tokens`."""
        return self._tokenizer(text, add_special_tokens=special_tokens).input_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`."""
        return self._tokenizer.decode(list(ids))

    def _inputs(self, tokens: Tokens) -> dict[str, Any]:
        ids = self._tensor(tokens)
        return {"input_ids": ids, "attention_mask": (ids != self._pad_id).long()}

    def _tensor(self, tokens: Tokens) -> Any:
        return self._torch.from_numpy(tokens.astype(np.int64))


@contextmanager
def _without_progress_bars(logging: Any) -> Iterator[None]:
    """Hides those of transformers in the block; `logging` is its module of that name."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_code(folder: pathlib.Path, record: Format) -> None:
    """Only our own code is run: that of a folder from elsewhere could do anything."""
    for file in record.model_files:
        carried = folder / file.name
        if not carried.exists() or carried.read_bytes() != file.read_bytes():
            raise ValueError(
                f"{carried} is {'another file' if carried.exists() else 'missing'}, not what "
                "this version of codet5p_jax writes; no other code is run. Export again."
            )


def _until_eos(tokens: list[int], start: int, eos_id: int) -> list[int]:
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
