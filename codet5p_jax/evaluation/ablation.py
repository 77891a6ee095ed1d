"""Ablations: what a variant of a recipe measures beside its base, seed by seed.

Runs of one seed share their data order and, where their parameters agree, their initialisation.
A variant is therefore compared with the base of the same seed: the paired difference leaves out
what the seed does to both.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Values = Mapping[str, float]  # metric -> value of one run
Runs = Mapping[int, Values]  # seed -> values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of the table.

    Attributes:
        name: Key in the values of a run.
        title: As printed.
        lower_is_better: True for losses.
        percent: Whether a share is shown in per cent.
    """

    name: str
    title: str
    lower_is_better: bool = False
    percent: bool = False


METRICS: Mapping[str, Sequence[Metric]] = {
    "stage1": (
        Metric(name="span_denoising", title="denoising", lower_is_better=True),
        Metric(name="seq2seq_clm", title="CLM seq2seq", lower_is_better=True),
        Metric(name="decoder_clm", title="CLM decoder", lower_is_better=True),
        Metric(name="completion_loss", title="completion loss", lower_is_better=True),
        Metric(name="exact_match", title="completion EM", percent=True),
        Metric(name="edit_similarity", title="completion ES", percent=True),
    ),
    "stage2": (
        Metric(name="mrr", title="MRR cosine"),
        Metric(name="mrr_reranked", title="MRR re-ranked"),
        Metric(name="matching_random", title="match, random", percent=True),
        Metric(name="matching_hard", title="match, hard", percent=True),
        Metric(name="text_to_code", title="text-to-code", lower_is_better=True),
        Metric(name="code_to_text", title="code-to-text", lower_is_better=True),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Values over seeds.

    Attributes:
        mean: Their mean.
        deviation: Their sample standard deviation (n - 1); None for one value.
        count: How many there are.
    """

    mean: float
    deviation: float | None
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A variant minus its base, seed by seed.

    Attributes:
        by_seed: Seed -> difference, for seeds that both have.
        spread: Mean and deviation of these differences.
        agreeing: Seeds whose difference has the sign of the mean.
    """

    by_seed: Mapping[int, float]
    spread: Spread
    agreeing: int


def stage1_values(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of stage 1 from the result of `codet5p eval_files`."""
    losses = {
        row["objective"].removeprefix("unimodal_"): row["loss"] for row in evaluation["losses"]
    }
    completion = evaluation["completion"]
    return {
        **losses,
        "completion_loss": completion["loss"],
        "exact_match": completion["exact_match"]["mean"],
        "edit_similarity": completion["edit_similarity"]["mean"],
    }


def stage2_values(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of stage 2 from the result of `codet5p eval`; absent heads have none."""
    # The first row of a ranking is over all texts; a second one is over the re-ranked texts alone.
    rankings = {row["ranking"]: row for row in reversed(evaluation["retrieval"])}
    names = {"after": "mrr", "reranked": "mrr_reranked"}
    return {
        **{
            names[name]: row["mrr"]["all"]["mean"]
            for name, row in rankings.items()
            if name in names
        },
        **{
            f"matching_{row['negatives']}": row["accuracy"]["mean"]
            for row in evaluation["matching"]
        },
        **{row["direction"]: row["loss"] for row in evaluation["translation"]},
    }


VALUES = {"stage1": stage1_values, "stage2": stage2_values}


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation of at least one value."""
    return Spread(
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        count=len(values),
    )


def paired_difference(
    variant: Mapping[int, float], base: Mapping[int, float]
) -> PairedDifference | None:
    """Returns variant - base over the seeds that both have; None when there is no such seed.

    paired_difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 2.0}) -> by seed {0: 2.0, 1: 3.0}, mean 2.5
    """
    by_seed = {seed: variant[seed] - base[seed] for seed in sorted(variant) if seed in base}
    if not by_seed:
        return None
    differences = spread(list(by_seed.values()))
    agreeing = sum(value * differences.mean > 0 for value in by_seed.values())
    return PairedDifference(by_seed=by_seed, spread=differences, agreeing=agreeing)


def compared(
    runs: Mapping[str, Runs], *, base: str, metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Returns one row per variant as JSON values, the base's first.

    Args:
        runs: Variant -> its runs; one without any run is a row without values.
        base: Name of the base.
        metrics: Columns.
    """
    order = [base, *(name for name in runs if name != base)]
    return [
        {
            "variant": name,
            "cells": {
                metric.name: _cell(
                    _column(runs[name], metric),
                    None if name == base else _column(runs.get(base, {}), metric),
                )
                for metric in metrics
            },
        }
        for name in order
    ]


def _column(runs: Runs, metric: Metric) -> dict[int, float]:
    return {
        seed: values[metric.name]
        for seed, values in runs.items()
        if values.get(metric.name) is not None
    }


def _cell(values: Mapping[int, float], base: Mapping[int, float] | None) -> dict[str, Any] | None:
    """Returns values, spread and difference to the base; None where nothing was measured."""
    if not values:
        return None
    difference = None if base is None else paired_difference(values, base)
    return {
        "values": _by_text(values),
        **dataclasses.asdict(spread(list(values.values()))),
        "difference": None
        if difference is None
        else {
            "values": _by_text(difference.by_seed),
            **dataclasses.asdict(difference.spread),
            "agreeing": difference.agreeing,
        },
    }


def _by_text(values: Mapping[int, float]) -> dict[str, float]:
    return {str(seed): value for seed, value in values.items()}
