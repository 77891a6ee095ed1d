import jax.numpy as jnp
import numpy as np

from codet5p_jax.models.masks import cross_mask, decoder_mask, encoder_mask

TOKENS = jnp.array([[7, 8, 9, 0]])
SEGMENTS = jnp.array([[1, 1, 2, 0]])


def _allowed(mask, queries, keys):
    return np.broadcast_to(mask.as_bias(queries, keys) == 0, [1, 1, queries, keys])[0, 0]


def test_encoder_sees_all_but_padding():
    assert _allowed(encoder_mask(TOKENS), 4, 4).tolist() == [[True, True, True, False]] * 4


def test_packed_encoder_sees_its_own_segment():
    allowed = _allowed(encoder_mask(TOKENS, SEGMENTS), 4, 4)
    assert allowed[:3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert not allowed[:3, 3].any()


def test_decoder_sees_its_past_and_the_start_token_that_looks_like_padding():
    assert _allowed(decoder_mask(), 3, 3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_packed_decoder_sees_the_past_of_its_segment():
    allowed = _allowed(decoder_mask(SEGMENTS), 4, 4)
    assert allowed[:3, :3].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_later_queries_see_what_lies_before_them():
    mask = decoder_mask().replace(query_offset=2)
    assert _allowed(mask, 1, 4).tolist() == [[True, True, True, False]]


def test_cross_attention_stays_within_segments_that_both_sides_have():
    packed = _allowed(cross_mask(TOKENS, SEGMENTS, jnp.array([[1, 2]])), 2, 4)
    assert packed.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]
    alone = _allowed(cross_mask(TOKENS, None, jnp.array([[1, 2]])), 2, 4)
    assert alone.tolist() == [[1, 1, 1, 0]] * 2


def test_masks_are_no_larger_than_they_must_be():
    assert encoder_mask(TOKENS).as_bias(4, 4).shape == (1, 1, 1, 4)
    assert decoder_mask().as_bias(4, 4).shape == (1, 1, 4, 4)
