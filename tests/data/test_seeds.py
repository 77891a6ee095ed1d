import numpy as np

from codet5p_jax.data.seeds import random_fractions, random_order, tensorflow_seed


def test_equal_keys_give_equal_randomness_and_others_other():
    keys = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1)]
    seeds = {tuple(tensorflow_seed(key)) for key in keys}
    assert len(seeds) == 4
    assert tuple(tensorflow_seed((0, "a", 1))) in seeds


def test_random_order_is_a_permutation():
    order = random_order(100, key=(3,))
    assert sorted(order) == list(range(100)) and list(order) != list(range(100))


def test_random_order_never_changes():
    """A change would shuffle every resumed run anew."""
    assert random_order(6, key=(1, "x", 2)).tolist() == [4, 5, 1, 3, 2, 0]


def test_random_fractions_are_uniform():
    fractions = random_fractions(10_000, key=(5,))
    assert fractions.min() >= 0 and fractions.max() < 1
    counts, _ = np.histogram(fractions, bins=10, range=(0, 1))
    assert abs(counts - 1000).max() < 150  # five standard deviations
