"""Benchmark: the stage 2 step with shared passes against the same four losses in separate passes.

``python -m benchmarks.stage2_step`` runs both on the same pairs, whose lengths are those of the
quickstart's (medians of 13 and 86 tokens in rows of 128 and 420), and once more on pairs that fill
their rows, where nothing can be gained from padding. Both sides start from the same state and must
report the same losses.
"""

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.paired import Comparison, Side, compare, report, serve

LIMITS = {"time": 0.55}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Text-code pairs at the paper's lengths, and the size of the model that reads them.

    Attributes:
        full: Whether rows are filled; else lengths are lognormal with the quickstart's quartiles.
        rows: Pairs of a batch.
        text_length: Positions of a text (paper, appendix B).
        code_length: Positions of a code.
        vocab_size: Its logits weigh as much beside a layer as those of the 220M model.
        embed_dim: Width.
        num_layers: Layers of the encoder, and of the decoder.
        queue_size: Entries of the queue.
    """

    full: bool
    rows: int = 16
    text_length: int = 128
    code_length: int = 420
    vocab_size: int = 2_048
    embed_dim: int = 256
    num_layers: int = 2
    queue_size: int = 1_024

    def batch(self) -> dict[str, np.ndarray]:
        """Returns the same batch in every process."""
        rng = np.random.default_rng(0)
        return {
            "text_tokens": self._tokens(rng, self.text_length, median=13, spread=0.5),
            "code_tokens": self._tokens(rng, self.code_length, median=86, spread=1.0),
            "pair_ids": np.arange(self.rows, dtype=np.int32),
        }

    def _tokens(
        self, rng: np.random.Generator, length: int, *, median: int, spread: float
    ) -> np.ndarray:
        lengths = np.exp(rng.normal(np.log(median), spread, self.rows)).astype(int)
        lengths = np.full(self.rows, length) if self.full else np.clip(lengths, 8, length)
        tokens = rng.integers(5, self.vocab_size - 3, [self.rows, length], dtype=np.int32)
        tokens[:, 0] = 1
        tokens[np.arange(self.rows), lengths - 1] = 2
        return np.where(np.arange(length) < lengths[:, None], tokens, 0)


def main() -> None:
    """Runs the benchmark, or with --serve one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="measured turns of each side")
    parser.add_argument("--microbatches", type=int, default=4)
    parser.add_argument("--num_lengths", type=int, default=4)
    parser.add_argument("--full", type=int, nargs="*", default=[0, 1], help="rows filled?")
    parser.add_argument("--serve", choices=["shared", "separate"], help="be a side (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve_side(arguments)
        return
    for full in arguments.full:
        report(compare_passes(arguments, full=full))


def compare_passes(arguments: argparse.Namespace, *, full: int) -> Comparison:
    """Returns shared passes beside separate ones."""
    command = (sys.executable, "-m", "benchmarks.stage2_step", f"--full={full}")
    parts = (1, 1) if full else (arguments.microbatches, arguments.num_lengths)
    options = (f"--microbatches={parts[0]}", f"--num_lengths={parts[1]}")
    return compare(
        "stage2_step_full_rows" if full else "stage2_step",
        Side(name="shared passes", command=(*command, *options, "--serve=shared")),
        Side(name="separate passes", command=(*command, "--serve=separate")),
        turns=arguments.turns,
        units=1,
        limits={} if full else LIMITS,
    )


def serve_side(arguments: argparse.Namespace) -> None:
    """Serves turns of one side."""
    from codet5p_jax.cli.huge_pages import restart_with_huge_pages

    restart_with_huge_pages()  # as `codet5p train` does

    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.models.config import T5Config
    from codet5p_jax.objectives.bimodal import BimodalObjective

    pairs = Pairs(full=bool(arguments.full[0]))
    config = T5Config(
        vocab_size=pairs.vocab_size,
        embed_dim=pairs.embed_dim,
        num_encoder_layers=pairs.num_layers,
        num_decoder_layers=pairs.num_layers,
        num_heads=pairs.embed_dim // 64,
        head_dim=64,
        mlp_dim=4 * pairs.embed_dim,
        projection_dim=256,
        matching_head=True,
        dropout_rate=0.0,
        scan_unroll=pairs.num_layers,
    )
    shared = arguments.serve == "shared"
    objective = BimodalObjective(
        model=CodeT5p(config),
        text_length=pairs.text_length,
        code_length=pairs.code_length,
        queue_size=pairs.queue_size,
        microbatches=arguments.microbatches if shared else 1,
        num_lengths=arguments.num_lengths if shared else 1,
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4, weight_decay=0.1))

    def create(rng: jax.Array) -> tuple[Any, Any, Any]:
        tokens = jnp.ones([1, 2], jnp.int32)
        params = {
            **objective.model.init(rng, tokens, tokens)["params"],
            **objective.init_params(rng),
        }
        return nn.unbox((params, optimizer.init(params), objective.init(rng, params)))

    gradient = shared_gradient(objective) if shared else separate_gradient(objective)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    batch = {name: jnp.asarray(rows) for name, rows in pairs.batch().items()}
    params, opt_state, state = jax.jit(create)(jax.random.key(0))
    losses = gradient(params, state, batch, jax.random.key(1))[0]

    def steps(count: int) -> None:
        nonlocal params, opt_state, state
        for step in range(count):
            _, grads, state = gradient(params, state, batch, jax.random.key(step))
            params, opt_state = update(params, opt_state, grads)
        jax.block_until_ready((params, state))

    serve(
        steps,
        facts={
            "first_losses": {name: float(value) for name, value in losses.items()},
            "jax": jax.__version__,
            "threads": len(os.sched_getaffinity(0)),
            "parameters": config.num_parameters(),
            "microbatches": objective.microbatches,
            "num_lengths": objective.num_lengths,
            "positions": pairs.rows * (pairs.text_length + pairs.code_length),
            "tokens": int(sum((batch[k] != 0).sum() for k in ("text_tokens", "code_tokens"))),
        },
    )


Gradient = Callable[..., tuple[dict[str, Any], Any, Any]]  # -> losses, gradients, next state


def shared_gradient(objective: Any) -> Gradient:
    """Returns a function to the losses, gradients and next state of our objective."""
    import jax

    @jax.jit
    def gradient(params: Any, state: Any, batch: Any, rng: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            total, metrics, next_state = objective.loss(params, state, batch, rng, train=True)
            return total.compute(), (metrics, next_state)

        grads, (metrics, next_state) = jax.grad(loss, has_aux=True)(params)
        losses = {k: v.compute() for k, v in metrics.items() if k.endswith("_loss")}
        return losses, grads, next_state

    return gradient


def separate_gradient(objective: Any) -> Gradient:
    """Returns the same in four separate passes, each loss encoding what it needs by itself."""
    import jax
    import jax.numpy as jnp

    from codet5p_jax.objectives.contrastive import clamp_temperature, contrastive_targets, same_pair
    from codet5p_jax.objectives.losses import contrastive_loss, matching_loss, token_cross_entropy
    from codet5p_jax.objectives.matching import draw_negatives, replace_first, shift_right
    from codet5p_jax.objectives.momentum import moving_average

    model, task = objective.model, objective.task_tokens

    def apply(params: Any, *inputs: Any, **options: Any) -> Any:
        return model.apply({"params": params}, *inputs, **options)

    def embeddings(params: Any, state: Any, batch: Any) -> Any:
        for_each = {}
        for name in ("text", "code"):
            tokens = batch[f"{name}_tokens"]
            momentum = apply(state.momentum_params, tokens, method="embed")
            queued = getattr(state.queue, f"{name}_features")
            keys = jax.lax.stop_gradient(jnp.concatenate([momentum, queued]))
            for_each[name] = apply(params, tokens, method="embed"), keys
        return for_each

    def contrastive(params: Any, state: Any, batch: Any, rng: Any) -> Any:
        ids, sides = batch["pair_ids"], embeddings(params, state, batch)
        temperature = clamp_temperature(params["contrastive"]["temperature"])
        positives = same_pair(ids, jnp.concatenate([ids, state.queue.pair_ids]))
        targets = contrastive_targets(positives, jnp.zeros(positives.shape), 0.0)
        (text, text_keys), (code, code_keys) = sides["text"], sides["code"]
        both = contrastive_loss(text, code_keys, targets, temperature)
        both += contrastive_loss(code, text_keys, targets, temperature)
        size = ids.shape[0]
        return both.compute(), (text_keys[:size], code_keys[:size])

    def matching(params: Any, state: Any, batch: Any, rng: Any) -> Any:
        ids, text, code = batch["pair_ids"], batch["text_tokens"], batch["code_tokens"]
        sides = embeddings(jax.lax.stop_gradient(params), state, batch)
        (text_features, text_keys), (code_features, code_keys) = sides["text"], sides["code"]
        temperature = clamp_temperature(params["contrastive"]["temperature"])
        size, positives = ids.shape[0], same_pair(ids, ids)
        code_rng, text_rng, _ = jax.random.split(jax.random.split(rng, 6)[3], 3)
        to_codes = text_features @ code_keys[:size].T / temperature
        to_texts = code_features @ text_keys[:size].T / temperature
        wrong_code = draw_negatives(code_rng, jax.lax.stop_gradient(to_codes), positives).index
        wrong_text = draw_negatives(text_rng, jax.lax.stop_gradient(to_texts), positives).index
        texts = jnp.concatenate([text, text, text[wrong_text]])
        codes = jnp.concatenate([code, code[wrong_code], code])
        logits = apply(params, texts, codes, method="match")
        labels = (jnp.arange(3 * size) < size).astype(jnp.int32)
        return matching_loss(logits, labels, jnp.ones(3 * size)).loss.compute(), ()

    def generation(source: str, target: str, token: int) -> Any:
        def loss(params: Any, state: Any, batch: Any, rng: Any) -> Any:
            labels = replace_first(batch[target], token)
            logits = apply(params, batch[source], shift_right(labels))
            weights = (labels != 0).astype(jnp.float32)
            return token_cross_entropy(logits, labels, weights).loss.compute(), ()

        return loss

    losses = {
        "contrastive_loss": contrastive,
        "matching_loss": matching,
        "text_to_code_loss": generation("text_tokens", "code_tokens", task.code),
        "code_to_text_loss": generation("code_tokens", "text_tokens", task.text),
    }

    @jax.jit
    def moved(params: Any, state: Any) -> Any:
        online = {name: params[name] for name in state.momentum_params}
        average = moving_average(state.momentum_params, online, objective.momentum)
        return state.replace(momentum_params=average)

    @jax.jit
    def pushed(state: Any, batch: Any, keys: Any) -> Any:
        queue = state.queue.push(text_features=keys[0], code_features=keys[1], **batch)
        return state.replace(queue=queue, steps=state.steps + 1)

    gradients = {k: jax.jit(jax.value_and_grad(fn, has_aux=True)) for k, fn in losses.items()}
    add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b))

    def gradient(params: Any, state: Any, batch: Any, rng: Any) -> Any:
        state, values, total, keys = moved(params, state), {}, None, ()
        for name, fn in gradients.items():
            (values[name], aux), grads = fn(params, state, batch, rng)
            total = grads if total is None else add(total, grads)
            keys = aux or keys
        return values, total, pushed(state, batch, keys)

    return gradient


if __name__ == "__main__":
    main()
