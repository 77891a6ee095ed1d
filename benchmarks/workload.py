"""The work of the train_step benchmark, the same for both sides; numpy only."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One step of T5 v1.1 small in float32, 77.0M parameters, AdamW behind a clip at norm 1.

    Attributes:
        vocab_size: Vocabulary, embedding and logits not tied.
        embed_dim: Width of the residual stream.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Attention heads.
        head_dim: Width of one head.
        mlp_dim: Width of the gated feed-forward layer.
        batch_size: Rows.
        input_length: Encoder tokens of a row, none of them padding.
        target_length: Decoder tokens of a row.
        learning_rate: Constant.
        weight_decay: Of AdamW.
        max_gradient_norm: Clip of the global gradient norm.
        dropout_rate: Dropout everywhere T5 has it.
    """

    vocab_size: int = 32_128
    embed_dim: int = 512
    num_layers: int = 8
    num_heads: int = 6
    head_dim: int = 64
    mlp_dim: int = 1024
    batch_size: int = 8
    input_length: int = 256
    target_length: int = 128
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0
    dropout_rate: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of a step, both sides together."""
        return self.batch_size * (self.input_length + self.target_length)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (inputs, targets), int32, the same in every process."""
        rng = np.random.default_rng(0)
        lengths = (self.input_length, self.target_length)
        inputs, targets = (
            rng.integers(5, self.vocab_size, [self.batch_size, length], dtype=np.int32)
            for length in lengths
        )
        return inputs, targets
