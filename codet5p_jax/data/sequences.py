"""What the sequences of rows are filled with, and which of them are as long as another.

A feature of numbers beside tokens, such as `loss_weights` beside `targets`, has their length
without being asked for, and 0 where they have padding.
"""

import dataclasses
from collections.abc import Mapping, Set

import seqio

from codet5p_jax.data.vocabulary import CodeVocabulary

LOSS_WEIGHTS = "loss_weights"
BESIDE = {LOSS_WEIGHTS: "targets"}  # numbers -> the tokens that they lie beside


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceIds:
    """Ids that stand around the tokens of a sequence; those of CodeT5 if none are given.

    Attributes:
        pad_id: What rows are filled with.
        start_id: What a decoder reads first.
    """

    pad_id: int = 0
    start_id: int = 0

    def padding(self, feature: str) -> int:
        """Returns what the rows of a feature are filled with."""
        return 0 if feature in BESIDE else self.pad_id


CODET5_IDS = SequenceIds()


def sequence_features(features: Mapping[str, seqio.Feature]) -> set[str]:
    """Returns the names of the sequences whose lengths are given."""
    return {name for name, feature in features.items() if feature.rank == 1} - BESIDE.keys()


def sequence_ids(features: Mapping[str, seqio.Feature]) -> SequenceIds:
    """Returns the ids that the vocabularies of the sequences of a task or mixture have.

    Raises:
        ValueError: If they differ: a model has one padding.
    """
    found = {name: _ids(features[name].vocabulary) for name in sorted(sequence_features(features))}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{n} pads with {i.pad_id}, {i.start_id}" for n, i in found.items())
        raise ValueError(
            f"The sequences of one task differ in the ids of padding and decoder start: {listed}. "
            "Give its features vocabularies of one tokenizer."
        )
    return next(iter(found.values()), CODET5_IDS)


def with_lengths_beside(lengths: Mapping[str, int], features: Set[str]) -> dict[str, int]:
    """Returns `lengths`, and those of the features of numbers that lie beside tokens."""
    beside = {name: lengths[tokens] for name, tokens in BESIDE.items() if name in features}
    return {**lengths, **beside}


def _ids(vocabulary: seqio.Vocabulary) -> SequenceIds:
    if isinstance(vocabulary, CodeVocabulary):
        tokenizer = vocabulary.tokenizer
        return SequenceIds(pad_id=tokenizer.pad_id, start_id=tokenizer.start_id)
    # T5's way: the decoder starts with padding.
    return SequenceIds(pad_id=vocabulary.pad_id, start_id=vocabulary.pad_id)
