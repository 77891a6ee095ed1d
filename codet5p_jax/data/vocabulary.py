"""The tokenizer as a `seqio.Vocabulary`, so that SeqIO's tasks and tools can use it."""

from collections.abc import Sequence
from typing import final

import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.tokenizer import CodeTokenizer


@final
class CodeVocabulary(seqio.Vocabulary):
    """SeqIO's view of a `CodeTokenizer`; equal tokenizers give equal vocabularies."""

    def __init__(self, tokenizer: CodeTokenizer):
        """Wraps `tokenizer`."""
        super().__init__()
        self.tokenizer = tokenizer

    @property
    def bos_id(self) -> int:
        """Id of `<s>`."""
        return self.tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        """Id of `</s>`."""
        return self.tokenizer.eos_id

    @property
    def unk_id(self) -> int:
        """Id of `<unk>`, which is `[CLM]` too."""
        return self.tokenizer.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size  # sentinels included: they are ordinary ids here

    def _encode(self, s: str) -> Sequence[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text):
            return np.array(self._encode(np.asarray(text).item().decode("utf-8")), np.int32)

        return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32), [None])

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(rows):
            return self._decode(rows.tolist()).encode("utf-8")

        return tf.numpy_function(decode, [ids], tf.string)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CodeVocabulary)
            and other.tokenizer.fingerprint == self.tokenizer.fingerprint
        )

    def __hash__(self) -> int:
        return hash(self.tokenizer.fingerprint)
