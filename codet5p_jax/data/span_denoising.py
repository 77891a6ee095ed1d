"""Span denoising over whole words (CodeT5+, section 3.1): fifteen per cent of the tokens.

    <s> def <extra_id_0>(a, b): return <extra_id_1> </s>
    <s> <extra_id_0> add <extra_id_1> a + b </s>

Where the decoder's start is what begins a sequence, as in CodeGen, targets have no `<s>`.
Spans are runs of 1..5 words, so no word is half masked. All rows of a block are masked at once:
spans are laid out over each row with gaps of 1..5 words between them, then taken in random order
until the share of masked tokens is reached. `whole_words=False` lays out runs of tokens instead.
"""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.chunking import concatenate_and_cut
from codet5p_jax.data.slices import concatenate_slices, interleave, row_bounds
from codet5p_jax.data.tokenization import MAX_WORD_TOKENS
from codet5p_jax.tokenizer import NUM_SENTINELS, Tokenizer

BOUNDARY_TOKENS = 2  # <s> and </s> of the inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanDenoising:
    """The block function of span denoising.

    Attributes:
        tokenizer: Its ids are used, nothing is encoded.
        density: Share of the tokens to mask.
        max_span_words: Spans have 1..max_span_words words, each number as likely.
        whole_words: Whether spans are runs of words, as in the paper; else they are runs of
            1..max_span_words tokens, which may begin and end within a word.
    """

    tokenizer: Tokenizer
    density: float = 0.15
    max_span_words: int = 5
    whole_words: bool = True

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns `inputs` and `targets` of chunks of the files in `block`.

        Raises:
            ValueError: If the targets are too short for the masked share, or a row needs more
                sentinels than there are.
        """
        chunks = concatenate_and_cut(block, max_length=self.chunk_length(sequence_length))
        if not self.whole_words:
            chunks = {**chunks, "word_lengths": tf.ones_like(chunks["tokens"])}
        starts, limits = self.choose_spans(chunks, seed=seed, sequence_length=sequence_length)
        return self.replace_spans(chunks["tokens"], starts, limits)

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if the lengths fit no chunk, or not the masked share of one."""
        self.chunk_length(sequence_length)

    def chunk_length(self, sequence_length: Mapping[str, int]) -> int:
        """Returns the tokens of the longest chunk whose inputs still fit after masking.

        A masked span of s tokens shortens the inputs by s - 1, and s is at least
        its number of words, on average (1 + max_span_words) / 2.

        Raises:
            ValueError: If the inputs are too short for a chunk, the targets for the masked share,
                or a row needs more sentinels than there are.
        """
        mean_words = (1 + self.max_span_words) / 2
        shortening = self.density * (1 - 1 / mean_words)
        length = math.floor((sequence_length["inputs"] - BOUNDARY_TOKENS) / (1 - shortening))
        self._check_inputs(length, shortening, sequence_length)
        self._check_targets(length, mean_words, sequence_length)
        return length

    def _check_inputs(
        self, length: int, shortening: float, sequence_length: Mapping[str, int]
    ) -> None:
        if length <= MAX_WORD_TOKENS:
            needed = math.ceil((MAX_WORD_TOKENS + 1) * (1 - shortening)) + BOUNDARY_TOKENS
            raise ValueError(
                f"Span denoising cuts between words of up to {MAX_WORD_TOKENS} tokens, so its "
                f"inputs need {needed} tokens; got {sequence_length['inputs']}. Raise 'inputs'."
            )

    def _check_targets(
        self, length: int, mean_words: float, sequence_length: Mapping[str, int]
    ) -> None:
        masked = round(self.density * length)
        spans = math.ceil(masked / mean_words)
        needed = masked + spans + self._target_boundary_tokens
        if sequence_length["targets"] < needed:
            raise ValueError(
                f"Span denoising of inputs of {sequence_length['inputs']} tokens masks {masked} of "
                f"{length} in up to {spans} spans, so its targets need {needed} tokens; "
                f"got {sequence_length['targets']}. Raise 'targets'."
            )
        if spans > NUM_SENTINELS:
            raise ValueError(
                f"Span denoising of inputs of {sequence_length['inputs']} tokens needs {spans} "
                f"sentinels; there are {NUM_SENTINELS}. Shorten 'inputs'."
            )

    def choose_spans(
        self, chunks: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns first and last + 1 token of each span, in order: two int32 [rows, spans].

        Positions count in the flat tokens. Rows with fewer spans end in empty ones at their end.
        """
        starts, limits = self._candidate_spans(chunks, seed)
        _, row_ends = row_bounds(chunks["tokens"])
        sizes = limits - starts
        priority = tf.random.stateless_uniform(tf.shape(sizes), tf.stack([seed[0], ~seed[1]]))
        order = tf.argsort(tf.where(sizes > 0, priority, 2.0), axis=1)  # empty ones last
        lengths = tf.cast(chunks["tokens"].row_lengths(), tf.int32)[:, tf.newaxis]
        taken = self._take(tf.gather(sizes, order, batch_dims=1), lengths, sequence_length)
        most = _largest(tf.reduce_sum(tf.cast(taken, tf.int32), axis=1))
        none = tf.shape(sizes)[1]
        chosen = tf.sort(tf.where(taken, order, none)[:, :most], axis=1)  # in the text's order
        starts = tf.gather(tf.concat([starts, row_ends], axis=1), chosen, batch_dims=1)
        limits = tf.gather(tf.concat([limits, row_ends], axis=1), chosen, batch_dims=1)
        return starts, limits

    def _candidate_spans(self, chunks: Block, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Lays out gap, span, gap, span, ... over the words of each row; [rows, candidates]."""
        first_word, last_word = row_bounds(chunks["word_lengths"])
        rows, longest = tf.size(first_word), _largest(last_word - first_word)
        words_per_pair = 1 + self.max_span_words  # of a gap and a span, on average
        pairs = longest * 5 // (4 * words_per_pair) + 8  # a quarter and a bit more than needed
        words = tf.random.stateless_uniform(
            [rows, 2 * pairs], seed, 1, self.max_span_words + 1, tf.int32
        )
        ends = tf.cumsum(words, axis=1) - 1  # the first gap may be empty
        ends = tf.minimum(first_word + ends, last_word)
        bounds = tf.concat([[0], tf.cumsum(chunks["word_lengths"].values)], axis=0)
        positions = tf.gather(bounds, ends)
        return positions[:, 0::2], positions[:, 1::2]

    def _take(
        self, sizes: tf.Tensor, lengths: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> tf.Tensor:
        """Returns which of the spans, in order of priority, to mask: a prefix of each row."""
        budget = self.density * tf.cast(lengths, tf.float32)
        masked = tf.cumsum(sizes, axis=1)  # with this span
        spans = tf.cumsum(tf.ones_like(sizes), axis=1)
        nearest = tf.cast(2 * masked - sizes, tf.float32) <= 2 * budget
        inputs_before = lengths - (masked - sizes) + (spans - 1) + BOUNDARY_TOKENS
        too_long = inputs_before > sequence_length["inputs"]
        target_tokens = masked + spans + self._target_boundary_tokens
        targets_fit = target_tokens <= sequence_length["targets"]
        wanted = nearest | too_long | (spans == 1)
        return wanted & targets_fit & (sizes > 0) & (spans <= NUM_SENTINELS)

    @property
    def _target_boundary_tokens(self) -> int:
        return len(self.tokenizer.target_prefix) + 1

    def replace_spans(self, tokens: tf.RaggedTensor, starts: tf.Tensor, limits: tf.Tensor) -> Block:
        """Returns `inputs`, spans replaced by sentinels, and `targets`, the spans behind theirs."""
        row_starts, row_ends = row_bounds(tokens)
        size = tf.size(tokens.values)
        sentinels = [self.tokenizer.sentinel_id(k) for k in range(NUM_SENTINELS)]
        target_prefix = self.tokenizer.target_prefix
        special = [self.tokenizer.bos_id, self.tokenizer.eos_id, *target_prefix, *sentinels]
        values = tf.concat([tokens.values, special], axis=0)
        bos = tf.zeros_like(row_starts) + size
        eos = bos + 1
        prefix = bos + 2
        prefix_end = prefix + len(target_prefix)
        sentinel = tf.zeros_like(starts) + prefix_end + tf.range(tf.shape(starts)[1])
        after_sentinel = sentinel + tf.cast(limits > starts, tf.int32)
        gap_starts = tf.concat([row_starts, limits], axis=1)
        gap_limits = tf.concat([starts, row_ends], axis=1)
        last = [gap_starts[:, -1:], eos], [gap_limits[:, -1:], eos + 1]
        inputs = concatenate_slices(
            values,
            tf.concat([bos, interleave(gap_starts[:, :-1], sentinel), *last[0]], axis=1),
            tf.concat([bos + 1, interleave(gap_limits[:, :-1], after_sentinel), *last[1]], axis=1),
        )
        targets = concatenate_slices(
            values,
            tf.concat([prefix, interleave(sentinel, starts), eos], axis=1),
            tf.concat([prefix_end, interleave(after_sentinel, limits), eos + 1], axis=1),
        )
        return {"inputs": inputs, "targets": targets}


def _largest(counts: tf.Tensor) -> tf.Tensor:
    """Returns the maximum; 0 for no counts."""
    return tf.maximum(tf.reduce_max(counts), 0)
