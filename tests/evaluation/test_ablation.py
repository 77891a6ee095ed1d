"""Tests of codet5p_jax.evaluation.ablation and ablation_table, the arithmetic by hand."""

import io
import json

import pytest
from rich.console import Console

from codet5p_jax.evaluation.ablation import (
    METRICS,
    Metric,
    compared,
    paired_difference,
    spread,
    stage1_values,
    stage2_values,
)
from codet5p_jax.evaluation.ablation_table import ablation_tables, markdown

LOSS = Metric(name="loss", title="loss", lower_is_better=True)
ALL = {metric.name: 0.5 for metric in METRICS["stage2"]}


def test_spread_is_mean_and_sample_deviation():
    """Of 1, 2 and 6: mean 3, squared deviations 4 + 1 + 9 over 2."""
    result = spread([1.0, 2.0, 6.0])
    assert (result.mean, result.count) == (3.0, 3)
    assert result.deviation == pytest.approx(7**0.5)
    assert spread([2.0]).deviation is None


def test_difference_is_paired_by_seed():
    """+1, +2 and -1.5: mean 0.5, two of three above zero, deviations 0.25 + 2.25 + 4 over 2."""
    difference = paired_difference({0: 3.0, 1: 7.0, 2: 2.5}, {2: 4.0, 1: 5.0, 0: 2.0})
    assert difference.by_seed == {0: 1.0, 1: 2.0, 2: -1.5}
    assert difference.spread.mean == pytest.approx(0.5)
    assert difference.spread.deviation == pytest.approx(3.25**0.5)
    assert difference.agreeing == 2


def test_a_seed_that_one_side_lacks_is_no_pair():
    assert paired_difference({0: 3.0, 1: 9.0}, {0: 1.0}).by_seed == {0: 2.0}
    assert paired_difference({1: 9.0}, {0: 1.0}) is None


def test_equal_values_agree_with_no_sign():
    assert paired_difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}).agreeing == 0


def test_rows_hold_values_of_every_seed_and_the_base_comes_first():
    runs = {"without": {0: {"loss": 2.0}, 1: {"loss": 4.0}}, "base": {0: {"loss": 1.0}, 1: {}}}
    base, without = compared(runs, base="base", metrics=[LOSS])
    assert (base["variant"], without["variant"]) == ("base", "without")
    assert base["cells"]["loss"]["difference"] is None
    assert base["cells"]["loss"]["values"] == {"0": 1.0}
    assert without["cells"]["loss"]["mean"] == 3.0
    assert without["cells"]["loss"]["difference"]["values"] == {"0": 1.0}
    assert json.loads(json.dumps([base, without])) == [base, without]


def test_a_variant_of_which_nothing_was_measured_has_empty_cells():
    [_, failed] = compared({"base": {0: {"loss": 1.0}}, "failed": {}}, base="base", metrics=[LOSS])
    assert failed["cells"] == {"loss": None}


def test_values_of_stage_2_are_those_over_all_texts():
    def row(ranking, mean):
        return {"ranking": ranking, "mrr": {"all": {"mean": mean}}}

    evaluation = {
        "retrieval": [row("bm25", 0.1), row("after", 0.2), row("after", 0.9), row("reranked", 0.3)],
        "matching": [
            {"negatives": "random", "accuracy": {"mean": 0.6}},
            {"negatives": "hard", "accuracy": {"mean": 0.4}},
        ],
        "translation": [
            {"direction": "text_to_code", "loss": 3.0},
            {"direction": "code_to_text", "loss": 4.0},
        ],
    }
    values = stage2_values(evaluation)
    assert values == {
        "mrr": 0.2,
        "mrr_reranked": 0.3,
        "matching_random": 0.6,
        "matching_hard": 0.4,
        "text_to_code": 3.0,
        "code_to_text": 4.0,
    }
    assert set(values) == {metric.name for metric in METRICS["stage2"]}


def test_values_of_stage_1_are_losses_and_completion():
    evaluation = {
        "losses": [
            {"objective": f"unimodal_{name}", "loss": loss}
            for name, loss in (("span_denoising", 1.0), ("seq2seq_clm", 2.0), ("decoder_clm", 3.0))
        ],
        "completion": {
            "loss": 4.0,
            "exact_match": {"mean": 0.1},
            "edit_similarity": {"mean": 0.4},
        },
    }
    values = stage1_values(evaluation)
    assert values["decoder_clm"] == 3.0 and values["exact_match"] == 0.1
    assert set(values) == {metric.name for metric in METRICS["stage1"]}


@pytest.fixture
def ablation():
    """Matching's accuracy falls from 60% to 50% in both seeds; MRR rises in one of two."""
    runs = {
        "base": {0: {**ALL, "matching_hard": 0.6, "mrr": 0.20}, 1: {**ALL, "mrr": 0.30}},
        "without": {0: {**ALL, "mrr": 0.26}, 1: {**ALL, "matching_hard": 0.4, "mrr": 0.28}},
        "failed": {},
    }
    changed = {"name": "BimodalObjective.momentum", "base": "0.99", "variant": "0.0"}
    return {
        "base": "quickstart",
        "seeds": [0, 1],
        "stages": {"stage2": compared(runs, base="base", metrics=METRICS["stage2"])},
        "changes": {"without": [changed]},
        "failed": ["failed, seed 0: stage 2"],
    }


def test_table_shows_mean_deviation_difference_and_agreement(ablation):
    console = Console(width=130, record=True, file=io.StringIO(), color_system="truecolor")
    for table in ablation_tables(ablation):
        console.print(table)
    text = console.export_text(clear=False)
    assert "0.250 ±0.071" in text and "0.270 ±0.014" in text  # sqrt(2 * 0.05 ** 2)
    assert "+0.020 ±0.057" in text and "1/2" in text  # +0.06 and -0.02
    assert "-10.0% ±0.0" in text and "2/2" in text
    assert "after stage 2 (seeds 0, 1)" in text
    assert "\x1b[31m-10.0%" in console.export_text(styles=True)  # worse in every seed: red


def test_markdown_has_the_same_numbers_the_changes_and_what_failed(ablation):
    text = markdown(ablation)
    row = next(line for line in text.splitlines() if line.startswith("| without"))
    assert row.count("|") == len(METRICS["stage2"]) + 2
    assert "0.270 ±0.014<br>+0.020 ±0.057 1/2" in row
    assert "- without: `BimodalObjective.momentum` 0.99 -> 0.0" in text
    assert "- failed, seed 0: stage 2" in text
    assert "| failed | –" in text
