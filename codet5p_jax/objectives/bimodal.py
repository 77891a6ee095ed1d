"""Stage 2: contrastive, matching, text-to-code and code-to-text losses from shared passes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.contrastive import (
    clamp_temperature,
    contrastive_targets,
    same_pair,
)
from codet5p_jax.objectives.losses import (
    chunked_token_cross_entropy,
    contrastive_loss,
    matching_loss,
)
from codet5p_jax.objectives.matching import draw_negatives, replace_first, shift_right
from codet5p_jax.objectives.metrics import nonpadding_share
from codet5p_jax.objectives.momentum import Queue, empty_queue, moving_average
from codet5p_jax.typing import Batch, Leaf, Metrics, PyTree, WeightedMean

MOMENTUM_PARAMS = ("token_embedder", "encoder", "projection")  # what embeds a sequence


class TaskTokens(struct.PyTreeNode):
    """Ids that tell the decoder what to do (CodeT5+ README, not the paper).

    Attributes:
        match: `[ENC]`, the text-code matching decoder.
        text: `[TDEC]`, write a text.
        code: `[CDEC]`, write code.
    """

    match: int = struct.field(pytree_node=False)
    text: int = struct.field(pytree_node=False)
    code: int = struct.field(pytree_node=False)


class BimodalState(struct.PyTreeNode):
    """What stage 2 carries between steps.

    Attributes:
        momentum_params: Slow copy of embedding, encoder and projection; gets no gradient.
        queue: Features, ids and tokens of the last pairs.
        steps: int32 [], steps already taken, for the ramp of alpha.
    """

    momentum_params: PyTree
    queue: Queue
    steps: Leaf


class _Side(struct.PyTreeNode):
    """One modality of a batch after its pass through the encoder."""

    tokens: Int[Array, "batch length"]
    encoded: Float[Array, "batch length embed"]
    features: Float[Array, "batch dim"]
    momentum_features: Float[Array, "batch dim"]
    queued_features: Float[Array, "queue dim"]

    @property
    def keys(self) -> Float[Array, "keys dim"]:
        """Momentum features that the other modality is compared with: this batch, the queue."""
        return jnp.concatenate([self.momentum_features, self.queued_features])


@dataclasses.dataclass(frozen=True, kw_only=True)
class BimodalObjective:
    """The four losses of stage 2 on text-code pairs (paper section 3.2), equally weighted.

    Text and code pass through the encoder once each; those two encodings serve the contrastive
    loss, matching (3 rows per pair) and both generation losses. A momentum pass, forward only,
    makes the keys.

    Attributes:
        model: Network with a projection and a matching head.
        text_length: Positions of a text, `<s>` and `</s>` included.
        code_length: Positions of a code.
        queue_size: Pairs kept as further negatives (K); a multiple of the batch size, or 0.
        momentum: Decay of the slow copy per step (m).
        alpha: Share of the momentum model in the contrastive targets, after the ramp.
        alpha_ramp_steps: Steps over which alpha grows from 0; 0 means none.
        initial_temperature: Start of the learned temperature (tau).
        negative_hardness: Factor on the similarities that matching's negatives are drawn by: 1
            prefers the most similar as the paper does, 0 draws all alike, which is easier to learn.
        chunk_length: See `Seq2SeqObjective`.
    """

    model: CodeT5p
    text_length: int = 128
    code_length: int = 420
    queue_size: int = 57_600
    momentum: float = 0.995
    alpha: float = 0.0
    alpha_ramp_steps: int = 0
    initial_temperature: float = 0.07
    negative_hardness: float = 1.0
    chunk_length: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range, naming the parameter."""
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"BimodalObjective.alpha is {self.alpha}; it must lie in [0, 1].")
        if not 0.0 <= self.momentum <= 1.0:
            raise ValueError(
                f"BimodalObjective.momentum is {self.momentum}; it must lie in [0, 1]."
            )
        if self.negative_hardness < 0.0:
            raise ValueError(
                f"BimodalObjective.negative_hardness is {self.negative_hardness}; it must be 0 "
                "(all negatives alike) or more (1 in the paper)."
            )
        config = self.model.config
        if config.projection_dim is None or not config.matching_head:
            raise ValueError(
                "BimodalObjective needs a model with a projection and a matching head; set "
                "T5Config.projection_dim (256 in the paper) and T5Config.matching_head = True."
            )

    @property
    def task_tokens(self) -> TaskTokens:
        """Ids of the task tokens, which begin with `[ENC]`."""
        first = self.model.config.match_id
        return TaskTokens(match=first, text=first + 1, code=first + 2)

    def init_params(self) -> PyTree:
        """Returns the learned temperature."""
        return {"contrastive": {"temperature": jnp.float32(self.initial_temperature)}}

    def init(self, rng: jax.Array, params: PyTree) -> BimodalState:
        """Returns the state before the first step: momentum = parameters, an empty queue."""
        return BimodalState(
            momentum_params={name: params[name] for name in MOMENTUM_PARAMS},
            queue=empty_queue(
                rng,
                size=self.queue_size,
                dim=self.model.config.projection_dim or 0,
                text_length=self.text_length,
                code_length=self.code_length,
            ),
            steps=jnp.int32(0),
        )

    def loss(
        self, params: PyTree, state: BimodalState, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[WeightedMean, Metrics, BimodalState]:
        """Returns (sum of the four mean losses in nats, metrics, next state).

        Args:
            params: Parameters of the model, and `contrastive/temperature`.
            state: From `init` or the last step.
            batch: text_tokens [batch, text], code_tokens [batch, code], pair_ids [batch]; equal
                ids are the same pair.
            rng: Source of dropout and of the negatives.
            train: Whether dropout is on and the state moves.
        """
        self._check_shapes(batch, state.queue)
        names = ("text", "code", "match", "write", "draw")
        rngs = dict(zip(names, jax.random.split(rng, len(names)), strict=True))
        if train:
            state = state.replace(
                momentum_params=moving_average(
                    state.momentum_params,
                    {name: params[name] for name in MOMENTUM_PARAMS},
                    self.momentum,
                )
            )
        text = self._side(params, state, batch["text_tokens"], "text", rngs["text"], train)
        code = self._side(params, state, batch["code_tokens"], "code", rngs["code"], train)
        contrastive, similarities, metrics = self._contrastive(params, state, batch, text, code)
        matching, accuracy = self._matching(
            params, batch, text, code, similarities, rngs["match"], rngs["draw"], train
        )
        to_code = self._generation(params, text, code, self.task_tokens.code, rngs["write"], train)
        to_text = self._generation(params, code, text, self.task_tokens.text, rngs["write"], train)

        parts = {
            "contrastive": contrastive,
            "matching": matching,
            "text_to_code": to_code.loss,
            "code_to_text": to_text.loss,
        }
        pairs = jnp.float32(batch["pair_ids"].shape[0])
        mean = sum((part.compute() for part in parts.values()), jnp.float32(0.0))
        metrics |= {f"{name}_loss": part for name, part in parts.items()}
        metrics |= {
            "matching_accuracy": accuracy,
            "nonpadding_tokens": nonpadding_share(batch["text_tokens"], batch["code_tokens"]),
            "text_to_code_accuracy": to_code.accuracy,
            "code_to_text_accuracy": to_text.accuracy,
        }
        return (
            WeightedMean(mean * pairs, pairs),
            metrics,
            self._next_state(state, batch, text, code) if train else state,
        )

    def _check_shapes(self, batch: Batch, queue: Queue) -> None:
        pairs = batch["pair_ids"].shape[0]
        if queue.size % pairs:
            raise ValueError(
                f"BimodalObjective.queue_size is {queue.size}, no multiple of the batch of {pairs} "
                f"pairs; the nearest that fits is {max(pairs, queue.size // pairs * pairs)}."
            )
        for name, length in (("text", self.text_length), ("code", self.code_length)):
            got = batch[f"{name}_tokens"].shape[1]
            if queue.size and got != length:
                raise ValueError(
                    f"BimodalObjective.{name}_length is {length}, but the stream's {name}_tokens "
                    f"have {got} positions; set both to the same length."
                )

    def _side(
        self,
        params: PyTree,
        state: BimodalState,
        tokens: Int[Array, "batch length"],
        name: str,
        rng: jax.Array,
        train: bool,
    ) -> _Side:
        """Encodes one modality, and embeds it with the momentum parameters."""
        encoded = self._apply(params, tokens, rng=rng, train=train, method="encode")
        momentum_features = self._apply(state.momentum_params, tokens, method="embed")
        return _Side(
            tokens=tokens,
            encoded=encoded,
            features=self._apply(params, encoded, method="project"),
            momentum_features=jax.lax.stop_gradient(momentum_features),
            queued_features=getattr(state.queue, f"{name}_features"),
        )

    def _contrastive(
        self, params: PyTree, state: BimodalState, batch: Batch, text: _Side, code: _Side
    ) -> tuple[WeightedMean, dict[str, Float[Array, "batch batch"]], Metrics]:
        """Contrastive loss of both directions, and the similarities within the batch."""
        temperature = clamp_temperature(params["contrastive"]["temperature"])
        ids = batch["pair_ids"]
        positives = same_pair(ids, jnp.concatenate([ids, state.queue.pair_ids]))
        ramp = state.steps / self.alpha_ramp_steps if self.alpha_ramp_steps else 1.0
        alpha = self.alpha * jnp.minimum(1.0, ramp)

        def direction(queries: _Side, keys: _Side) -> WeightedMean:
            momentum_logits = jax.lax.stop_gradient(
                queries.momentum_features @ keys.keys.T / temperature
            )
            targets = contrastive_targets(positives, momentum_logits, alpha)
            return contrastive_loss(queries.features, keys.keys, targets, temperature)

        both = direction(text, code) + direction(code, text)
        size = ids.shape[0]
        similarities = {
            "text": text.features @ code.momentum_features.T,
            "code": code.features @ text.momentum_features.T,
        }
        own = positives[:, :size]
        metrics = {
            "temperature": WeightedMean(temperature, jnp.float32(1.0)),
            "positive_similarity": _mean_where(similarities["text"], own),
            "negative_similarity": _mean_where(similarities["text"], ~own),
        }
        logits = {k: jax.lax.stop_gradient(v / temperature) for k, v in similarities.items()}
        return both, logits, metrics

    def _matching(
        self,
        params: PyTree,
        batch: Batch,
        text: _Side,
        code: _Side,
        similarities: dict[str, Float[Array, "batch batch"]],
        rng: jax.Array,
        draw_rng: jax.Array,
        train: bool,
    ) -> tuple[WeightedMean, WeightedMean]:
        """Matching loss and accuracy on the pairs, (text, wrong code) and (wrong text, code)."""
        positives = same_pair(batch["pair_ids"], batch["pair_ids"])
        code_rng, text_rng = jax.random.split(draw_rng)
        logits = {side: self.negative_hardness * value for side, value in similarities.items()}
        wrong_code = draw_negatives(code_rng, logits["text"], positives)
        wrong_text = draw_negatives(text_rng, logits["code"], positives)

        def texts(x: Array) -> Array:  # of the rows (pair, wrong code, wrong text)
            return jnp.concatenate([x, x, x[wrong_text.index]])

        codes = jnp.concatenate([code.tokens, code.tokens[wrong_code.index], code.tokens])
        logits = self._apply(
            params,
            texts(text.encoded),
            texts(text.tokens),
            replace_first(codes, self.task_tokens.match),
            rng=rng,
            train=train,
            method="match_encoded",
        )
        size = batch["pair_ids"].shape[0]
        labels = jnp.arange(3 * size) < size
        weights = jnp.concatenate([jnp.ones(size, bool), wrong_code.found, wrong_text.found])
        return matching_loss(logits, labels.astype(jnp.int32), weights.astype(jnp.float32))

    def _generation(
        self, params: PyTree, source: _Side, target: _Side, task: int, rng: jax.Array, train: bool
    ):
        """Cross-entropy of one modality given the other; labels are the task token, x, `</s>`."""
        labels = replace_first(target.tokens, task)
        hidden = self._apply(
            params,
            source.encoded,
            source.tokens,
            shift_right(labels),
            rng=rng,
            train=train,
            method="decode",
        )
        return chunked_token_cross_entropy(
            lambda chunk: self._apply(params, chunk, method="logits"),
            hidden,
            labels,
            (labels != 0).astype(jnp.float32),
            chunk_length=self.chunk_length,
            vocab_size=self.model.config.vocab_size,
        )

    def _next_state(
        self, state: BimodalState, batch: Batch, text: _Side, code: _Side
    ) -> BimodalState:
        queue = state.queue.push(
            text_features=text.momentum_features,
            code_features=code.momentum_features,
            pair_ids=batch["pair_ids"],
            text_tokens=text.tokens,
            code_tokens=code.tokens,
        )
        return state.replace(queue=queue, steps=state.steps + 1)

    def _apply(
        self,
        params: PyTree,
        *inputs: Array,
        method: str,
        rng: jax.Array | None = None,
        train: bool = False,
    ) -> Any:
        options = {"train": train} if method not in ("project", "logits") else {}
        rngs = {"dropout": rng} if train and rng is not None else {}
        return self.model.apply({"params": params}, *inputs, **options, rngs=rngs, method=method)


def _mean_where(values: Float[Array, "batch keys"], where: Array) -> WeightedMean:
    return WeightedMean(jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(where).astype(jnp.float32))
