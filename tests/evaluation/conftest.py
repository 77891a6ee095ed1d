"""A tiny random model, its tokenizer and held-out pairs."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from codet5p_jax.evaluation.heldout import HeldOutPair, select_pairs
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.tokenizer import train_tokenizer

LANGUAGES = ("go", "python", "ruby")


@pytest.fixture(scope="session")
def tokenizer():
    words = [f"{first}{second}{first}" for first in "abcdefghijkl" for second in "mnopqrstuvwxyz"]
    return train_tokenizer(
        words, 400, min_frequency=1
    )  # what the test model's 503 ids are made for


@pytest.fixture(scope="session")
def trained():
    model = CodeT5p(model_config("codet5p_test"))
    tokens = jnp.ones([1, 4], jnp.int32)
    params = nn.unbox(model.init(jax.random.key(0), tokens, tokens))["params"]
    return TrainedModel(model=model, params=params)


@pytest.fixture(scope="session")
def make_pair():
    def make(number, **changes):
        fields = {
            "text": f"Returns number {number}.",
            "code": f"def name{number}(x):\n    return x + {number}",
            "name": f"name{number}",
            "language": LANGUAGES[number % 3],
            "source": f"package/file{number}.py",
            "id": f"{number:016x}",
        }
        return HeldOutPair(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def held_out(make_pair):
    return select_pairs([make_pair(k) for k in range(12)], limit=10)
