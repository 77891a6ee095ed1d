"""13-grams of tokens as 64-bit numbers, the same in every process.

Tokens are those of `filters.TokenCount`: words and single other characters, case as it is.
Whitespace does not count. Of a word of over sixteen bytes its ends and its length count: what
differs in the middle of such a word alone, thirteen tokens long, is the same text for our purpose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt64

TOKENS_IN_GRAM = 13  # as in GPT-3 (arXiv:2005.14165), appendix C

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
_WORD, _OTHER = 1, 2  # kinds of bytes; 0 is whitespace


def _kind(byte: int) -> int:
    character = bytes([byte])
    if character.isspace():
        return 0
    return _WORD if character.isalnum() or character == b"_" else _OTHER


_KINDS = bytes(map(_kind, range(256)))
_STARTS_NAME = np.isin(np.arange(256), list(_LETTERS))
_LOAD = 8  # bytes of a word that are read at once
_MASKS = np.array([2 ** (8 * n) - 1 for n in range(_LOAD + 1)], np.uint64)
_M1, _M2, _M3, _M4, _M5 = np.random.default_rng(13).integers(
    1, 2**64, size=5, dtype=np.uint64, endpoint=False
) | np.uint64(1)
_POWERS = {n: np.uint64(pow(int(_M5), n, 2**64)) for n in (1, 2, 4)}
_SHIFT = np.uint64(32)


class TokenGrams(NamedTuple):
    """The 13-grams of some texts.

    Attributes:
        grams: Hash of the thirteen tokens from each token on, whatever text they are of.
        bounds: The first token of each text, and at last their number.
    """

    grams: UInt64[np.ndarray, "tokens"]
    bounds: Int64[np.ndarray, "bounds"]

    def owners(self, places: Int64[np.ndarray, "places"]) -> Int64[np.ndarray, "places"]:
        """Returns the text that the grams at `places` are of; -1 where they are of two."""
        owners = np.searchsorted(self.bounds, places, side="right") - 1
        return np.where(places + TOKENS_IN_GRAM <= self.bounds[owners + 1], owners, -1)


def token_grams(texts: Sequence[bytes]) -> TokenGrams:
    """Returns the 13-grams of `texts`."""
    hashes, starts, _ = _tokens(b"\n".join(texts))
    return TokenGrams(grams=_rolled(hashes), bounds=_bounds(texts, starts))


def distinct_names(texts: Sequence[bytes]) -> Int64[np.ndarray, "tokens"]:
    """Returns how many different words that start with a letter each 13-gram of `texts` has."""
    hashes, _, names = _tokens(b"\n".join(texts))
    if len(hashes) < TOKENS_IN_GRAM:
        return np.empty(0, np.int64)
    words = np.where(names, hashes, 0)
    ordered = np.sort(np.lib.stride_tricks.sliding_window_view(words, TOKENS_IN_GRAM), axis=1)
    new = np.diff(ordered, axis=1, prepend=np.uint64(0)) != 0
    return new.sum(axis=1)


def _tokens(
    text: bytes,
) -> tuple[UInt64[np.ndarray, "tokens"], Int64[np.ndarray, "tokens"], Bool[np.ndarray, "tokens"]]:
    """The hash of each token, where it starts, and whether it starts with a letter."""
    padded = text + bytes(_LOAD)  # so that eight bytes can be read at the last token too
    kinds = np.frombuffer(b"".join([b"\0", text.translate(_KINDS), b"\0"]), np.uint8)
    word, other = kinds == _WORD, kinds[1:-1] == _OTHER
    starts = np.flatnonzero((word[1:-1] > word[:-2]) | other)
    lengths = np.flatnonzero((word[1:-1] > word[2:]) | other) + 1 - starts
    loads = np.ndarray((len(text) + 1,), np.dtype("<u8"), padded, strides=(1,))
    hashes = loads[starts] & _MASKS[np.minimum(lengths, _LOAD)]
    hashes *= _M1
    long = np.flatnonzero(lengths > _LOAD)
    hashes[long] ^= loads[starts[long] + lengths[long] - _LOAD] * _M2
    hashes += lengths.view(np.uint64) * _M3
    hashes ^= hashes >> _SHIFT
    hashes *= _M4
    hashes ^= hashes >> _SHIFT
    return hashes, starts, _STARTS_NAME[np.frombuffer(padded, np.uint8)[starts]]


def _bounds(
    texts: Sequence[bytes], starts: Int64[np.ndarray, "tokens"]
) -> Int64[np.ndarray, "bounds"]:
    offsets = np.cumsum([0, *(len(text) + 1 for text in texts)])
    return np.searchsorted(starts, offsets)


def _rolled(hashes: UInt64[np.ndarray, "tokens"]) -> UInt64[np.ndarray, "windows"]:
    """The hash of each window of thirteen, from windows of 1, 2, 4 and 8."""
    if len(hashes) < TOKENS_IN_GRAM:
        return np.empty(0, np.uint64)
    windows = {1: hashes}
    for size, power in _POWERS.items():
        one = windows[size]
        windows[2 * size] = one[:-size] * power
        windows[2 * size] += one[size:]
    count = len(hashes) - TOKENS_IN_GRAM + 1
    grams = windows[8][:count] * _POWERS[4]
    grams += windows[4][8 : 8 + count]
    grams *= _POWERS[1]
    grams += hashes[12:]
    grams ^= grams >> _SHIFT
    grams *= _M4  # the first bits, by which a gram is looked up, depend on all of it
    return grams
