"""The tokenizer as a `seqio.Vocabulary`, so that SeqIO's tasks and tools can use it."""

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.tokenizer import Tokenizer


@final
class CodeVocabulary(seqio.Vocabulary):
    """SeqIO's view of a `Tokenizer`; equal tokenizers give equal vocabularies."""

    def __init__(self, tokenizer: Tokenizer):
        """Wraps `tokenizer`."""
        super().__init__()
        self.tokenizer = tokenizer

    @property
    def pad_id(self) -> int:
        """Id of padding, which decodes to nothing: it stands behind the end of a sequence."""
        return self.tokenizer.pad_id

    @property
    def bos_id(self) -> int:
        """Id of `<s>`."""
        return self.tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        """Id of `</s>`."""
        return self.tokenizer.eos_id

    @property
    def unk_id(self) -> int | None:
        """Id of `<unk>`, which is `[CLM]` too; None in CodeGen's vocabulary."""
        return self.tokenizer.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size  # sentinels included: they are ordinary ids here

    def _encode(self, s: str) -> Sequence[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: bytes) -> np.ndarray:
            return np.array(self._encode(text.decode("utf-8")), np.int32)

        return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(ids: np.ndarray) -> np.ndarray:
            rows = ids.reshape(math.prod(ids.shape[:-1]), ids.shape[-1]).tolist()
            texts = [self._decode(row).encode("utf-8") for row in rows]
            # Not an array of bytes, which would lose NULs at the end of a text.
            return np.array(texts, object).reshape(ids.shape[:-1])

        return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string), ids.shape[:-1])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CodeVocabulary)
            and other.tokenizer.fingerprint == self.tokenizer.fingerprint
        )

    def __hash__(self) -> int:
        return hash(self.tokenizer.fingerprint)
