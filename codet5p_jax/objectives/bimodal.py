"""Stage 2: contrastive, matching, text-to-code and code-to-text losses from shared passes."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.flops import Trained, bimodal_training_flops
from codet5p_jax.objectives.contrastive import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    clamp_temperature,
    contrastive_targets,
    same_pair,
)
from codet5p_jax.objectives.losses import contrastive_loss
from codet5p_jax.objectives.matching import draw_negatives
from codet5p_jax.objectives.metrics import nonpadding_share
from codet5p_jax.objectives.momentum import Queue, empty_queue, moving_average
from codet5p_jax.objectives.objective import BatchShapes, check_features
from codet5p_jax.objectives.ranges import Range, check_ranges
from codet5p_jax.objectives.shared_passes import SharedPasses
from codet5p_jax.typing import Batch, Leaf, Metrics, PyTree, WeightedMean

# What embeds a sequence; an encoder of a family of its own has its token embedding inside.
MOMENTUM_PARAMS = ("token_embedder", "encoder", "projection")
LOSSES = ("contrastive", "matching", "text_to_code", "code_to_text")

_RANGES = {
    "alpha": Range(least=0, most=1),
    "momentum": Range(least=0, most=1),
    "initial_temperature": Range(least=MIN_TEMPERATURE, most=MAX_TEMPERATURE, macro="TEMPERATURE"),
    "queue_size": Range(least=0, whole=True),
    "alpha_ramp_steps": Range(least=0, whole=True),
    "negative_hardness": Range(least=0),
    **{f"{loss}_weight": Range(least=0) for loss in LOSSES},
    "microbatches": Range(least=1, whole=True),
    "num_lengths": Range(least=1, whole=True),
    "chunk_length": Range(least=1, whole=True, optional=True),
}


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
        momentum_params: Slow copy of embedding, encoder and projection; gets no gradient. Empty
            where there is no momentum encoder.
        queue: Features, ids and tokens of the last pairs.
        steps: int32 [], steps already taken, for the ramp of alpha and the age of the queue.
    """

    momentum_params: PyTree
    queue: Queue
    steps: Leaf


class _Side(struct.PyTreeNode):
    """One modality of a batch after its pass through the encoder.

    Attributes:
        tokens: Token ids.
        encoded: Encoder output.
        features: What the encoder makes of a row, unit norm.
        keys: The same by the momentum encoder, then those of the queue; no gradient.
        key_tokens: Token ids of the keys, where matching draws from the queue; else the batch's.
    """

    tokens: Int[Array, "batch length"]
    encoded: Float[Array, "batch length embed"]
    features: Float[Array, "batch dim"]
    keys: Float[Array, "keys dim"]
    key_tokens: Int[Array, "candidates length"]


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
        momentum: Decay of the slow copy per step (m); 0 takes the trained encoder's own features
            as keys, without a gradient and without a second pass.
        alpha: Share of the momentum model in the contrastive targets, after the ramp.
        alpha_ramp_steps: Steps over which alpha grows from 0; 0 means none.
        initial_temperature: Start of the learned temperature (tau).
        negative_hardness: Factor on the similarities that matching's negatives are drawn by: 1
            prefers the most similar as the paper does, 0 draws all alike, which is easier to learn.
        negatives_from_queue: Whether matching's negatives come from batch and queue, or from the
            batch alone. Wrong texts then pass through the encoder once more.
        contrastive_weight: Factor of the contrastive loss; 0 leaves it out.
        matching_weight: Factor of the matching loss; 0 leaves its pass out.
        text_to_code_weight: Factor of the loss of code given text; 0 leaves its pass out.
        code_to_text_weight: Factor of the loss of text given code; 0 leaves its pass out.
        chunk_length: See `Seq2SeqObjective`.
        microbatches: Groups of rows that each pass is computed in, one after the other, with the
            memory of one. Exact: contrastive learning and negatives see the whole batch.
        num_lengths: Lengths that such a group may be cut to; rows are then grouped by length, and
            a group is computed at the shortest that holds it. 1 computes all at full length.
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
    negatives_from_queue: bool = False
    contrastive_weight: float = 1.0
    matching_weight: float = 1.0
    text_to_code_weight: float = 1.0
    code_to_text_weight: float = 1.0
    chunk_length: int | None = None
    microbatches: int = 1
    num_lengths: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range, naming the parameter."""
        check_ranges(self, _RANGES)
        if self.num_lengths > 1 and self.microbatches == 1:
            raise ValueError(
                f"BimodalObjective.num_lengths is {self.num_lengths}, but with one microbatch all "
                "rows are computed at one length. Set MICROBATCHES to 4 or more, or NUM_LENGTHS to "
                "1."
            )
        if not any(self._weight(loss) for loss in LOSSES):
            raise ValueError(
                "BimodalObjective has no loss: all of "
                f"{', '.join(f'{loss.upper()}_WEIGHT' for loss in LOSSES)} are 0. Set one to 1."
            )
        config = self.model.config
        if config.projection_dim is None or not config.matching_head:
            raise ValueError(
                "BimodalObjective needs a model with a projection and a matching head; set "
                "T5Config.projection_dim (256 in the paper) and T5Config.matching_head = True, or "
                "those of EncoderDecoderConfig."
            )

    @property
    def required_features(self) -> tuple[str, ...]:
        """Names that a batch must have."""
        return ("text_tokens", "code_tokens", "pair_ids")

    def check_shapes(self, batch_shapes: BatchShapes) -> None:
        """Raises ValueError for batches that the loss or the queue cannot take."""
        check_features(self, batch_shapes)
        pairs, size = batch_shapes["pair_ids"][0], self.queue_size
        if size % pairs:
            below = size // pairs * pairs
            raise ValueError(
                f"BimodalObjective.queue_size is {size}, no multiple of the batch of {pairs} "
                f"pairs. Set QUEUE_SIZE to {below} or {below + pairs}, or BATCH_SIZE to a divisor "
                "of it."
            )
        if pairs + size < 2:
            raise ValueError(
                "A batch of one pair without a queue has nothing to tell the pair from. Set "
                "BATCH_SIZE to 2 or more, or QUEUE_SIZE."
            )
        for name, length in (("text", self.text_length), ("code", self.code_length)):
            got = batch_shapes[f"{name}_tokens"][1]
            if size and got != length:
                raise ValueError(
                    f"BimodalObjective.{name}_length is {length}, and the batches have {got} "
                    f"tokens per {name}. Set {name.upper()}_LENGTH, which gives both."
                )

    @property
    def task_tokens(self) -> TaskTokens:
        """Ids of the task tokens, which begin with `[ENC]`."""
        first = self.model.config.match_id
        return TaskTokens(match=first, text=first + 1, code=first + 2)

    def init_params(self, rng: jax.Array) -> PyTree:
        """Returns the learned temperature."""
        return {"contrastive": {"temperature": jnp.float32(self.initial_temperature)}}

    def init(self, rng: jax.Array, params: PyTree) -> BimodalState:
        """Returns the state before the first step: momentum = parameters, an empty queue.

        Its leaves carry logical axis names where those of `params` do, and the queue's always:
        `flax.linen.unbox` takes them off.
        """
        return BimodalState(
            momentum_params=_embedding_params(params) if self.momentum else {},
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
        """Returns (weighted sum of the mean losses in nats, metrics, next state).

        Args:
            params: Parameters of the model, and `contrastive/temperature`.
            state: From `init` or the last step, without axis names.
            batch: text_tokens [batch, text], code_tokens [batch, code], pair_ids [batch]; equal
                ids are the same pair.
            rng: Source of dropout and of the negatives.
            train: Whether dropout is on and the state moves.
        """
        self.check_shapes({name: rows.shape for name, rows in batch.items()})
        names = ("text", "code", "matching", "draw", "text_to_code", "code_to_text")
        rngs = dict(zip(names, jax.random.split(rng, len(names)), strict=True))
        if train and self.momentum:
            online = _embedding_params(params)
            momentum_params = moving_average(state.momentum_params, online, self.momentum)
            state = state.replace(momentum_params=momentum_params)
        passes = SharedPasses(
            model=self.model,
            params=params,
            train=train,
            microbatches=self.microbatches,
            num_lengths=self.num_lengths,
            chunk_length=self.chunk_length,
        )
        text = self._side(passes, state, batch, "text", rngs["text"])
        code = self._side(passes, state, batch, "code", rngs["code"])
        contrastive, logits, metrics = self._contrastive(params, state, batch, text, code)
        tokens = self.task_tokens
        parts = {"contrastive": contrastive} if self.contrastive_weight else {}
        if self.matching_weight:
            rows = self._matching_rows(passes, state, batch, text, code, logits, rngs)
            parts["matching"], metrics["matching_accuracy"] = passes.matching(
                *rows, tokens.match, rngs["matching"]
            )
        for name, source, target, token in (
            ("text_to_code", text, code, tokens.code),
            ("code_to_text", code, text, tokens.text),
        ):
            if self._weight(name):
                sides = source.encoded, source.tokens, target.tokens
                written = passes.generation(*sides, token, rngs[name])
                parts[name], metrics[f"{name}_accuracy"] = written.loss, written.accuracy
        metrics |= {f"{name}_loss": part for name, part in parts.items()}
        metrics["nonpadding_tokens"] = nonpadding_share(
            text.tokens, code.tokens, pad_id=self.model.config.pad_id
        )
        pairs = jnp.float32(batch["pair_ids"].shape[0])
        means = [self._weight(name) * part.compute() for name, part in parts.items()]
        total = sum(means, jnp.float32(0.0))
        next_state = self._next_state(state, batch, text, code) if train else state
        return WeightedMean(total * pairs, pairs), metrics, next_state

    def flops(self, batch_shapes: BatchShapes, trained: Trained = Trained.ALL) -> float | None:
        """Returns the FLOPs of a training step on a batch of these shapes (models/flops.py).

        With `num_lengths` above 1 an upper bound: how far groups are cut depends on the batch.
        """
        if trained is not Trained.ALL:
            return None
        pairs, text_length = batch_shapes["text_tokens"]
        flops = bimodal_training_flops(
            self.model.config,
            pairs=pairs,
            text_length=text_length,
            code_length=batch_shapes["code_tokens"][1],
            momentum=self.momentum > 0,
            encoded_negatives=self.negatives_from_queue,
            **{loss: self._weight(loss) > 0 for loss in LOSSES},
        )
        return float(flops)

    def _weight(self, loss: str) -> float:
        return getattr(self, f"{loss}_weight")

    def _side(
        self, passes: SharedPasses, state: BimodalState, batch: Batch, name: str, rng: jax.Array
    ) -> _Side:
        """Encodes one modality, and embeds it with the momentum parameters."""
        tokens = batch[f"{name}_tokens"]
        encoded = passes.encoded(tokens, rng)
        features = passes.projected(encoded)
        own_keys = features
        if self.momentum:
            own_keys = passes.momentum_features(state.momentum_params, tokens)
        queued = getattr(state.queue, f"{name}_features")
        keys = jax.lax.stop_gradient(jnp.concatenate([own_keys, queued]))
        key_tokens = tokens
        if self.negatives_from_queue:
            key_tokens = jnp.concatenate([tokens, getattr(state.queue, f"{name}_tokens")])
        return _Side(
            tokens=tokens,
            encoded=encoded,
            features=features,
            # On every device: each compares its own rows with all keys.
            keys=nn.with_logical_constraint(keys, (None, None)),
            key_tokens=key_tokens,
        )

    def _contrastive(
        self, params: PyTree, state: BimodalState, batch: Batch, text: _Side, code: _Side
    ) -> tuple[WeightedMean, dict[str, Float[Array, "batch keys"]], Metrics]:
        """Contrastive loss of both directions, and what negatives are drawn by."""
        temperature = clamp_temperature(params["contrastive"]["temperature"])
        positives = self._positives(state, batch)
        ramp = state.steps / self.alpha_ramp_steps if self.alpha_ramp_steps else 1.0
        alpha = self.alpha * jnp.minimum(1.0, ramp)
        size = batch["pair_ids"].shape[0]

        def direction(queries: _Side, keys: _Side) -> WeightedMean:
            momentum_logits = queries.keys[:size] @ keys.keys.T / temperature
            momentum_logits = jax.lax.stop_gradient(momentum_logits)
            targets = contrastive_targets(positives, momentum_logits, alpha)
            return contrastive_loss(queries.features, keys.keys, targets, temperature)

        both = direction(text, code) + direction(code, text)
        similarities = {"text": text.features @ code.keys.T, "code": code.features @ text.keys.T}
        own, in_batch = positives[:, :size], similarities["text"][:, :size]
        metrics = {
            "temperature": WeightedMean(temperature, jnp.float32(1.0)),
            "positive_similarity": _mean_where(in_batch, own),
            "negative_similarity": _mean_where(in_batch, ~own),
        }
        if state.queue.size:
            age, filled = state.queue.age_and_share(state.steps, size)
            metrics |= {"queue_age": age, "queue_filled": filled}
        scale = self.negative_hardness / temperature
        logits = {k: jax.lax.stop_gradient(scale * v) for k, v in similarities.items()}
        return both, logits, metrics

    def _positives(self, state: BimodalState, batch: Batch) -> Array:
        ids = batch["pair_ids"]
        return same_pair(ids, jnp.concatenate([ids, state.queue.pair_ids]))

    def _matching_rows(
        self,
        passes: SharedPasses,
        state: BimodalState,
        batch: Batch,
        text: _Side,
        code: _Side,
        logits: dict[str, Float[Array, "batch keys"]],
        rngs: dict[str, jax.Array],
    ) -> tuple[Array, Array, Array, Array]:
        """Returns encoded texts, texts, codes and weights of (pair, wrong code, wrong text).

        The three rows of a pair follow each other, on the device of the pair.
        """
        candidates = text.key_tokens.shape[0]
        positives = self._positives(state, batch)[:, :candidates]
        unwritten = state.queue.is_unwritten(batch["pair_ids"])[:candidates]
        code_rng, text_rng, encode_rng = jax.random.split(rngs["draw"], 3)
        wrong_code, wrong_text = (
            draw_negatives(rng, logits[side][:, :candidates], positives, unwritten)
            for side, rng in (("text", code_rng), ("code", text_rng))
        )
        texts = text.key_tokens[wrong_text.index]
        if self.negatives_from_queue:
            wrong_encoded = passes.encoded(texts, encode_rng)
        else:
            wrong_encoded = text.encoded[wrong_text.index]
        found = [jnp.ones_like(wrong_code.found), wrong_code.found, wrong_text.found]
        return (
            _interleave(text.encoded, text.encoded, wrong_encoded),
            _interleave(text.tokens, text.tokens, texts),
            _interleave(code.tokens, code.key_tokens[wrong_code.index], code.tokens),
            _interleave(*found).astype(jnp.float32),
        )

    def _next_state(
        self, state: BimodalState, batch: Batch, text: _Side, code: _Side
    ) -> BimodalState:
        size = batch["pair_ids"].shape[0]
        queue = state.queue.push(
            text_features=text.keys[:size],
            code_features=code.keys[:size],
            pair_ids=batch["pair_ids"],
            text_tokens=text.tokens,
            code_tokens=code.tokens,
        )
        return state.replace(queue=queue, steps=state.steps + 1)


def _interleave(*parts: Array) -> Array:
    """Returns row i of each part in turn, then row i + 1 of each."""
    return jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])


def _mean_where(values: Float[Array, "batch keys"], where: Array) -> WeightedMean:
    return WeightedMean(jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(where).astype(jnp.float32))


def _embedding_params(params: PyTree) -> PyTree:
    return {name: params[name] for name in MOMENTUM_PARAMS if name in params}
