import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.decoding.sampling import Sampler, greedy, keep_top_k, keep_top_p

# probabilities 0.5, 0.25, 0.125, 0.125 in two orders
LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.125, 0.125], [0.125, 0.5, 0.125, 0.25]]))


def _kept(logits):
    return np.isfinite(np.asarray(logits)).tolist()


def test_greedy_takes_the_largest_logit_and_the_lowest_id_among_equals(rng):
    assert greedy(LOGITS, rng).tolist() == [0, 1]
    assert greedy(jnp.zeros([1, 4]), rng).tolist() == [0]


def test_top_k_keeps_the_k_largest():
    assert _kept(keep_top_k(LOGITS, 2)) == [[True, True, False, False], [False, True, False, True]]


def test_top_k_beyond_the_vocabulary_keeps_all():
    np.testing.assert_array_equal(keep_top_k(LOGITS, 9), LOGITS)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.01, [True, False, False, False]),  # the likeliest token stays whatever p
        (0.5, [True, False, False, False]),
        (0.51, [True, True, False, False]),
        (0.75, [True, True, False, False]),
        (1.0, [True, True, True, True]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    assert _kept(keep_top_p(LOGITS[:1], p)) == [kept]


def test_kept_logits_are_unchanged():
    logits = keep_top_p(LOGITS, 0.6)
    np.testing.assert_array_equal(logits[0, :2], LOGITS[0, :2])


def test_samples_follow_the_tempered_distribution(rng):
    rows = jnp.tile(LOGITS[:1], [20_000, 1])
    counts = np.bincount(Sampler(temperature=0.5)(rows, rng), minlength=4) / 20_000
    squared = np.array([0.25, 0.0625, 0.015625, 0.015625])
    np.testing.assert_allclose(counts, squared / squared.sum(), atol=0.015)  # 4 standard errors


def test_low_temperature_approaches_greedy(rng):
    assert Sampler(temperature=1e-3)(LOGITS, rng).tolist() == greedy(LOGITS, rng).tolist()


@pytest.mark.parametrize("sampler", [Sampler(top_k=1), Sampler(top_p=0.1, temperature=3.0)])
def test_a_nucleus_of_one_is_greedy(sampler, rng):
    assert sampler(LOGITS, rng).tolist() == [0, 1]


def test_samplers_with_equal_values_share_compiled_code(rng):
    sample = jax.jit(lambda logits, rng, sampler: sampler(logits, rng), static_argnums=2)
    sample(LOGITS, rng, Sampler(top_k=2))
    sample(LOGITS, rng, Sampler(top_k=2))
    assert sample._cache_size() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0, expected above 0; for 0 use `greedy`"),
        ({"top_k": 0}, "top_k is 0, expected 1 or more"),
        ({"top_p": 0.0}, r"top_p is 0.0, expected in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p is 1.5, expected in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**values)
