"""Floating point operations of the model, counted from its shapes: what MFU is measured with.

Matrix products alone are counted, [m, k] times [k, n] as 2 m k n; norms, softmax, dropout and the
relative position bias are not (PaLM, arXiv:2204.02311, appendix B). Padding counts, since it is
computed; the rows that pad the vocabulary do not, since no model needs them. Causal attention
counts whole, as PaLM does and as `dot_product_attention` computes it.
"""

import dataclasses

from codet5p_jax.models.config import T5Config

TRAINED = 3  # a trained pass costs its forward twice more: gradients of activations, of weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderFlops:
    """FLOPs of one forward pass of the decoder, by what they grow with.

    Attributes:
        layers: Self-attention and feed-forward of all layers.
        cross_keys_and_values: Projections of the encoder output, per encoder token.
        cross_queries: Projections of the decoder's own states, there and back, per decoder token.
        cross_scores: Scores and weighted sums, per pair of decoder and encoder token.
        logits: Products with the vocabulary, per decoder token.
    """

    layers: int
    cross_keys_and_values: int
    cross_queries: int
    cross_scores: int
    logits: int

    @property
    def hidden(self) -> int:
        """FLOPs of the hidden states, without the logits."""
        return self.layers + self.cross_keys_and_values + self.cross_queries + self.cross_scores

    @property
    def total(self) -> int:
        """FLOPs of the logits and all that leads to them."""
        return self.hidden + self.logits


def encoder_flops(config: T5Config, *, rows: int, length: int) -> int:
    """Returns the FLOPs of encoding `rows` sequences of `length` tokens, forward."""
    return config.num_encoder_layers * rows * _layer_flops(config, length)


def decoder_flops(config: T5Config, *, rows: int, inputs: int, targets: int) -> DecoderFlops:
    """Returns the FLOPs of decoding `targets` tokens given `inputs` encoded ones, forward."""
    projection = _product(config.embed_dim, config.num_heads * config.head_dim)
    layers = config.num_decoder_layers * rows
    return DecoderFlops(
        layers=layers * _layer_flops(config, targets),
        cross_keys_and_values=layers * inputs * 2 * projection,
        cross_queries=layers * targets * 2 * projection,
        cross_scores=layers * _scores_flops(config, queries=targets, keys=inputs),
        logits=rows * targets * _product(config.embed_dim, config.vocab_size),
    )


def projection_flops(config: T5Config, *, rows: int) -> int:
    """Returns the FLOPs of projecting `rows` encoded sequences, forward; 0 without projection."""
    return rows * _product(config.embed_dim, config.projection_dim or 0)


def matching_head_flops(config: T5Config, *, rows: int) -> int:
    """Returns the FLOPs of the matching head on `rows` hidden states, forward."""
    return rows * _product(config.embed_dim, 2)


def seq2seq_training_flops(config: T5Config, *, rows: int, inputs: int, targets: int) -> int:
    """Returns the FLOPs of one training pass, encoder to logits, forward and backward."""
    encoder = encoder_flops(config, rows=rows, length=inputs)
    decoder = decoder_flops(config, rows=rows, inputs=inputs, targets=targets)
    return TRAINED * (encoder + decoder.total)


def bimodal_training_flops(
    config: T5Config,
    *,
    pairs: int,
    text_length: int,
    code_length: int,
    contrastive: bool = True,
    matching: bool = True,
    text_to_code: bool = True,
    code_to_text: bool = True,
    momentum: bool = True,
    encoded_negatives: bool = False,
) -> int:
    """Returns the FLOPs of a step of stage 2 with shared passes, forward and backward.

    Text and code are encoded once each, and once more by the momentum encoder, forward only;
    matching decodes 3 rows per pair; each generation loss decodes one. An encoding that no loss
    differentiates (that of the code, say, if only matching reads it) costs its forward pass.
    Similarities within the batch and with the queue are left out: at 220m, 256 pairs and a queue
    of 57,600 they are a hundredth of a per cent.

    Args:
        config: Shape of the model.
        pairs: Rows of the batch.
        text_length: Positions of a text.
        code_length: Positions of a code.
        contrastive: Whether the contrastive loss is computed.
        matching: Whether the matching loss is.
        text_to_code: Whether text-to-code generation is.
        code_to_text: Whether code-to-text generation is.
        momentum: Whether a momentum encoder makes the keys.
        encoded_negatives: Whether matching encodes its wrong texts, as those from the queue;
            those of the batch are encoded already.
    """
    text, code = (
        encoder_flops(config, rows=pairs, length=length) for length in (text_length, code_length)
    )
    projections = 2 * projection_flops(config, rows=pairs)
    total = text * (TRAINED if contrastive or matching or text_to_code else 1)
    total += code * (TRAINED if contrastive or code_to_text else 1)
    total += projections * (TRAINED if contrastive else 1)
    if momentum:
        total += text + code + projections
    if matching:
        rows = 3 * pairs
        decoder = decoder_flops(config, rows=rows, inputs=text_length, targets=code_length)
        total += TRAINED * (decoder.hidden + matching_head_flops(config, rows=rows))
    if matching and encoded_negatives:
        total += TRAINED * text
    for wanted, inputs, targets in (
        (text_to_code, text_length, code_length),
        (code_to_text, code_length, text_length),
    ):
        decoder = decoder_flops(config, rows=pairs, inputs=inputs, targets=targets)
        total += TRAINED * decoder.total * wanted
    return total


def _layer_flops(config: T5Config, length: int) -> int:
    """Self-attention and feed-forward of one layer on one sequence."""
    joined = config.num_heads * config.head_dim
    attention = 4 * _product(config.embed_dim, joined)  # query, key, value, out
    matrices = 3 if config.gated_mlp else 2
    mlp = matrices * _product(config.embed_dim, config.mlp_dim)
    return length * (attention + mlp) + _scores_flops(config, queries=length, keys=length)


def _scores_flops(config: T5Config, *, queries: int, keys: int) -> int:
    """Scores and weighted sum of the values, all heads, one sequence."""
    return 2 * queries * keys * _product(config.num_heads, config.head_dim)


def _product(rows: int, columns: int) -> int:
    """FLOPs of one vector times a [rows, columns] matrix."""
    return 2 * rows * columns
