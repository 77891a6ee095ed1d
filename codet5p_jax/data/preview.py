"""Examples of a task as a model would see them, to be read by a person."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import seqio

from codet5p_jax.data.mixtures import check_example_lengths, get_mixture_or_task, rated_tasks
from codet5p_jax.data.seeds import random_fractions, random_words
from codet5p_jax.data.sequences import BESIDE, LOSS_WEIGHTS, sequence_features
from codet5p_jax.data.vocabulary import CodeVocabulary

# Tokens per feature where no recipe says otherwise: the paper's (sections 4.2 and App. B).
LENGTHS: Mapping[str, Mapping[str, int]] = {
    "unimodal_span_denoising": {"inputs": 512, "targets": 128},
    "unimodal_seq2seq_clm": {"inputs": 768, "targets": 600},
    "unimodal_decoder_clm": {"inputs": 1, "targets": 1024},
    "bimodal_pairs": {"text": 128, "code": 420},
    "text_to_code": {"inputs": 128, "targets": 420},
    "code_to_text": {"inputs": 420, "targets": 128},
    "instruction": {"inputs": 512, "targets": 512},
}
SHUFFLED_AT_ONCE = 256

Pieces = list[tuple[str, bool]]  # texts, and whether each is a special token


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedFeature:
    """One side of an example.

    Attributes:
        name: Of the feature; of targets that have no loss at first, of each part.
        num_tokens: Its tokens; None for a number.
        pieces: What they say; see `Tokenizer.pieces`.
    """

    name: str
    num_tokens: int | None
    pieces: Pieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedExample:
    """One example.

    Attributes:
        task: Name of the task that it comes from.
        features: Its sides.
    """

    task: str
    features: tuple[DecodedFeature, ...]


def default_lengths(task: str) -> Mapping[str, int]:
    """Returns the tokens per feature of a task of ours.

    Raises:
        ValueError: If it is none of ours.
    """
    for beginning, lengths in LENGTHS.items():
        if task == beginning or task.startswith(f"{beginning}_"):
            return lengths
    raise ValueError(
        f"How long are examples of {task!r}? Give their lengths: --lengths=inputs=512,targets=128."
    )


def decoded_examples(
    mixture_or_task: str,
    *,
    lengths: Callable[[str], Mapping[str, int]] = default_lengths,
    split: str = "train",
    count: int,
    seed: int = 0,
) -> Iterator[DecodedExample]:
    """Yields `count` examples; those of a mixture are drawn by the rates of its tasks.

    Args:
        mixture_or_task: Name in SeqIO's registry.
        lengths: Name of a task -> tokens per feature.
        split: Name of the split.
        count: How many; fewer where there are no more.
        seed: The same one gives the same examples.

    Raises:
        ValueError: If there is no such mixture or task, it has no example in the split, or the
            lengths do not fit.
    """
    provider = get_mixture_or_task(mixture_or_task)
    if split not in provider.splits:
        raise ValueError(
            f"{mixture_or_task!r} has no split {split!r}; known: {', '.join(provider.splits)}."
        )
    rates = rated_tasks(provider, split=split)
    tasks, bounds = list(rates), np.cumsum(list(rates.values()))
    streams: dict[str, Iterator[Mapping[str, np.ndarray]]] = {}
    draws = random_fractions(count, key=(seed, "preview")) * bounds[-1]
    for index in np.searchsorted(bounds, draws, side="right"):
        task = tasks[int(index)]
        if task.name not in streams:
            streams[task.name] = _stream(task, lengths(task.name), split=split, seed=seed)
        example = next(streams[task.name], None)
        if example is None:
            raise ValueError(
                f"Task {task.name!r} has no more examples in the split {split!r}. Ask for fewer."
            )
        yield DecodedExample(task=task.name, features=_decoded(task, example))


def _stream(
    task: seqio.Task, lengths: Mapping[str, int], *, split: str, seed: int
) -> Iterator[Mapping[str, np.ndarray]]:
    sequences = sequence_features(task.output_features)
    if sequences != set(lengths):
        raise ValueError(
            f"Task {task.name!r} has the sequences {', '.join(sorted(sequences))}; lengths are "
            f"given for {', '.join(sorted(lengths))}."
        )
    check_example_lengths(task, lengths)
    dataset = task.get_dataset(
        lengths,
        split,
        shuffle=True,
        shuffle_buffer_size=SHUFFLED_AT_ONCE,
        seed=int(random_words(1, key=(seed, task.name))[0] >> 1),
    )
    return iter(dataset.as_numpy_iterator())


def _decoded(task: seqio.Task, example: Mapping[str, np.ndarray]) -> tuple[DecodedFeature, ...]:
    return tuple(
        _feature(part, values, feature.vocabulary)
        for name, feature in task.output_features.items()
        if name not in BESIDE
        for part, values in _parts(name, example)
    )


def _parts(
    name: str, example: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray | np.generic]]:
    """Returns a feature, or where the loss is on a part of it, that part and what is before it."""
    values = example[name]
    if BESIDE[LOSS_WEIGHTS] != name or LOSS_WEIGHTS not in example:
        return [(name, values)]
    has_loss = example[LOSS_WEIGHTS] != 0
    return [
        (f"{name} without loss", values[~has_loss]),
        (f"{name} with loss", values[has_loss]),
    ]


def _feature(
    name: str, values: np.ndarray | np.generic, vocabulary: seqio.Vocabulary
) -> DecodedFeature:
    if isinstance(vocabulary, CodeVocabulary):
        pieces = vocabulary.tokenizer.pieces(values.tolist())
        return DecodedFeature(name=name, num_tokens=values.size, pieces=pieces)
    return DecodedFeature(name=name, num_tokens=None, pieces=[(str(values), False)])
