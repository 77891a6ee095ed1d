"""Floating point operations of the model, counted from its shapes: what MFU is measured with.

Matrix products alone are counted, [m, k] times [k, n] as 2 m k n; norms, softmax, dropout and the
relative position bias are not (PaLM, arXiv:2204.02311, appendix B). Padding counts, since it is
computed; the rows that pad the vocabulary do not, since no model needs them. Causal attention
counts whole, as PaLM counts it; a kernel may skip blocks of keys that lie ahead.
"""

import dataclasses
import enum

from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, HalfConfig, ModelConfig

TRAINED = 3  # a trained pass costs its forward twice more: gradients of activations, of weights
THROUGH = 2  # as a pass through frozen weights does once more, for the gradient of activations


class Trained(enum.Enum):
    """Which parameters of a model are trained."""

    ALL = "all"
    BUT_LANGUAGE_MODEL = "all but the decoder's language model"  # paper, section 3.3


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


def encoder_flops(config: ModelConfig, *, rows: int, length: int) -> int:
    """Returns the FLOPs of encoding `rows` sequences of `length` tokens, forward."""
    half = config.encoder if isinstance(config, EncoderDecoderConfig) else config
    return config.num_encoder_layers * rows * _layer_flops(half, length)


def decoder_flops(config: ModelConfig, *, rows: int, inputs: int, targets: int) -> DecoderFlops:
    """Returns the FLOPs of decoding `targets` tokens given `inputs` encoded ones, forward."""
    half = _decoder_half(config)
    query, key_value = _projections(half)
    crossing = rows * _crossing_layers(config)
    widened = rows * inputs * _widening(config)
    return DecoderFlops(
        layers=config.num_decoder_layers * rows * _layer_flops(half, targets),
        cross_keys_and_values=crossing * inputs * 2 * key_value + widened,
        cross_queries=crossing * targets * 2 * query,
        cross_scores=crossing * _scores_flops(half, queries=targets, keys=inputs),
        logits=rows * targets * _product(half.embed_dim, config.vocab_size),
    )


def projection_flops(config: ModelConfig, *, rows: int) -> int:
    """Returns the FLOPs of projecting `rows` encoded sequences, forward; 0 without projection."""
    return rows * _product(config.embed_dim, config.projection_dim or 0)


def matching_head_flops(config: ModelConfig, *, rows: int) -> int:
    """Returns the FLOPs of the matching head on `rows` hidden states, forward."""
    return rows * _product(_decoder_half(config).embed_dim, 2)


def seq2seq_training_flops(
    config: ModelConfig,
    *,
    rows: int,
    inputs: int,
    targets: int,
    trained: Trained = Trained.ALL,
) -> int:
    """Returns the FLOPs of one training pass, encoder to logits, forward and backward."""
    encoder = encoder_flops(config, rows=rows, length=inputs)
    decoder = decoder_flops(config, rows=rows, inputs=inputs, targets=targets)
    if trained is Trained.ALL:
        return TRAINED * (encoder + decoder.total)
    half, above = _decoder_half(config), _crossing_layers(config) - 1
    query = rows * targets * _projections(half)[0]
    scores = _scores_flops(half, queries=targets, keys=targets)
    # Layers above the first with cross-attention pass gradients on, through frozen weights.
    passed_on = above * rows * (_layer_flops(half, targets) - scores) * (THROUGH - 1)
    passed_on += above * rows * scores * (TRAINED - 1)
    across = decoder.cross_keys_and_values + decoder.cross_queries + decoder.cross_scores
    # The states below the first one have no gradient, which spares that of one projection.
    decoder_passes = decoder.layers + passed_on + TRAINED * across - query
    return TRAINED * encoder + decoder_passes + THROUGH * decoder.logits


def bimodal_training_flops(
    config: ModelConfig,
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


def _decoder_half(config: ModelConfig) -> HalfConfig:
    return config.decoder if isinstance(config, EncoderDecoderConfig) else config


def _crossing_layers(config: ModelConfig) -> int:
    """Decoder layers with cross-attention."""
    if isinstance(config, EncoderDecoderConfig) and not isinstance(config.decoder, T5Config):
        return config.cross_attention_layers
    return config.num_decoder_layers


def _widening(config: ModelConfig) -> int:
    """FLOPs of taking one encoded token to the width of the decoder."""
    if isinstance(config, EncoderDecoderConfig) and config.projects_encoded:
        return _product(config.encoder.embed_dim, config.decoder.embed_dim)
    return 0


def _projections(half: HalfConfig) -> tuple[int, int]:
    """FLOPs per token of the query's (or the output's) projection, and of the key's."""
    query = _product(half.embed_dim, half.num_heads * half.head_dim)
    if isinstance(half, T5Config):
        return query, query
    return query, _product(half.embed_dim, half.num_kv_heads * half.head_dim)


def _layer_flops(half: HalfConfig, length: int) -> int:
    """Self-attention and feed-forward of one layer on one sequence."""
    attention = 2 * sum(_projections(half))  # query and out, key and value
    matrices = half.mlp_matrices
    mlp = matrices * _product(half.embed_dim, half.mlp_dim)
    return length * (attention + mlp) + _scores_flops(half, queries=length, keys=length)


def _scores_flops(half: HalfConfig, *, queries: int, keys: int) -> int:
    """Scores and weighted sum of the values, all heads, one sequence."""
    return 2 * queries * keys * _product(half.num_heads, half.head_dim)


def _product(rows: int, columns: int) -> int:
    """FLOPs of one vector times a [rows, columns] matrix."""
    return 2 * rows * columns
