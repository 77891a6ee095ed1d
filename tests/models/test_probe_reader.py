from tests.models.test_attention import *
from tests.models.test_attention import _gradients,_plain_attention,_causal_attention
import jax
@pytest.mark.parametrize("seed",range(6))
def test_p(branches, seed):
    *keys, bias_key = jax.random.split(jax.random.key(seed), 4)
    qkv = [jax.random.normal(key, [4, 64, 3, 16]).astype(jnp.bfloat16) for key in keys]
    inputs = (*(x.astype(jnp.float32) for x in qkv), jax.random.normal(bias_key, [1, 3, 64, 64]))
    exact = _gradients(_plain_attention, inputs, jnp.float32)
    def distances(attend):
        gradients = _gradients(attend, inputs, jnp.bfloat16)
        return [float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in zip(gradients, exact, strict=True)]
    o,p=distances(_causal_attention), distances(_plain_attention)
    print([round(a/b,3) for a,b in zip(o,p)])
