"""Tests of codet5p_jax.training.hlo.shapes."""

import pytest

from codet5p_jax.training.hlo.shapes import buffers_of_type, elements_of_tuple


def _only(text):
    (buffer,) = buffers_of_type(text)
    return buffer


def test_an_array_has_its_type_shape_and_place():
    buffer = _only("bf16[1,2048,2048]{2,1,0:T(8,128)(2,1)S(1)}")
    assert (buffer.dtype, buffer.dimensions) == ("bf16", (1, 2048, 2048))
    assert (buffer.tiles, buffer.memory_space) == (((8, 128), (2, 1)), 1)
    assert buffer.dense_bytes == buffer.padded_bytes == 2 * 2048 * 2048
    assert buffer.hbm_bytes == 0


@pytest.mark.parametrize(
    "text, padded_bytes",
    [
        ("f32[10,100]{1,0:T(8,128)}", 4 * 16 * 128),
        ("f32[10,100]{0,1:T(8,128)}", 4 * 104 * 128),  # stored transposed: 100 rows of 10
        ("bf16[3,10,100]{2,1,0:T(8,128)(2,1)}", 2 * 3 * 16 * 128),
        ("bf16[7]{0:T(1024)(128)(2,1)}", 2 * 1024),
        ("f32[10,100]{1,0}", 4 * 10 * 100),
        ("pred[3]", 3),
        ("s4[3]{0:E(4)}", 2),
        ("u32[]{:S(2)}", 4),
        ("f8e4m3fn[5]{0}", 5),
        ("bf16[0,4]{1,0}", 0),
        ("bf16[<=8,4]{1,0}", 2 * 8 * 4),
    ],
)
def test_tiles_are_padded(text, padded_bytes):
    assert _only(text).padded_bytes == padded_bytes


def test_a_tuple_has_the_arrays_of_its_elements():
    text = "((f32[2]{0}, s32[]), /*index=1*/bf16[4,4]{1,0:T(8,128)(2,1)S(1)}, token[])"
    assert [buffer.dtype for buffer in buffers_of_type(text)] == ["f32", "s32", "bf16", "token"]
    assert elements_of_tuple(text) == [
        "(f32[2]{0}, s32[])",
        "/*index=1*/bf16[4,4]{1,0:T(8,128)(2,1)S(1)}",
        "token[]",
    ]
    assert elements_of_tuple("f32[2]{0}") == ["f32[2]{0}"]


def test_an_element_type_of_unknown_size_is_an_error():
    with pytest.raises(ValueError, match="'strange' is an element type of unknown size"):
        buffers_of_type("strange[4]")
