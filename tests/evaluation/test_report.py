"""Tests of codet5p_jax.evaluation.report: the page is read with html.parser."""

import html.parser
import json
import re

import pytest

from codet5p_jax.evaluation.report import report_page, write_report
from codet5p_jax.evaluation.run_files import RunFiles

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)> 数据 $body ${title}"
VOID = {"meta", "line", "path", "rect", "circle", "br"}


class _Page(html.parser.HTMLParser):
    """Collects text and tags, and fails where elements are not nested properly."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.attributes = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.text += data + " "


def _estimate(mean, count=100):
    return {"mean": mean, "low": mean * 0.9, "high": mean * 1.1, "count": count}


def _retrieval(ranking, mean, queries=100):
    mrr = {"all": _estimate(mean, queries), "go": _estimate(mean / 2, queries)}
    return {"ranking": ranking, "queries": queries, "codes": 100, "mrr": mrr, "note": None}


def _evaluation(text="plain"):
    matching = {
        "negatives": "hard",
        "accuracy": _estimate(0.61),
        "positives_accepted": 0.7,
        "negatives_rejected": 0.52,
        "told_apart": _estimate(0.66),
    }
    sample = {"task": "completion", "language": "go", "source": text}
    return {
        "setting": {"pairs": 100},
        "losses": [
            {"objective": "unimodal_span_denoising", "tokens": 5, "unigram": 6.1, "after": 6.7}
        ],
        "retrieval": [
            _retrieval("random", 0.05),
            _retrieval("bm25", 0.4),
            _retrieval("after", 0.3),
            _retrieval("after", 0.31, 50),
            _retrieval("reranked", 0.35, 50),
        ],
        "matching": [matching],
        "samples": [{**sample, "prompt": text, "reference": text, "output": ""}],
    }


def _run(directory, *, evaluation=None, config="BATCH_SIZE = 8", lines=(), metadata=None):
    directory.mkdir(exist_ok=True)
    records = [
        {
            "step": step,
            "time": 1.7e9 + step,
            "split": split,
            "phase": "all",
            "pairs/loss": 3.0 / step,
            "learning_rate": 1e-3,
            "timing/tokens_per_second": 1e4,
        }
        for step in range(1, 4)
        for split in ("train", "eval")
    ]
    text = "".join(json.dumps(record) + "\n" for record in [*records, *lines])
    (directory / "metrics.jsonl").write_text(text + '{"step": 4, "pai')  # a killed run
    (directory / "config.gin").write_text(config)
    if evaluation is not None:
        (directory / "evaluation.json").write_text(json.dumps(evaluation))
    if metadata is not None:
        (directory / "run_metadata.json").write_text(json.dumps(metadata))
    return RunFiles.read(directory)


MANIFEST = {
    "recipe": "quickstart",
    "fingerprint": "0123abcd",
    "splits": {"train": {"files": 1234, "pairs": 56}},
    "languages": {"go": 12},
    "licenses": {"MIT": 7},
    "rejections": {"minified": 3},
    "sources": [
        {"name": "etcd", "version": "3.4", "license": "Apache-2.0", "files": 10, "bytes": 5}
    ],
}


def test_page_holds_curves_tables_samples_corpus_and_config(tmp_path):
    stage1, stage2 = _run(tmp_path / "stage1"), _run(tmp_path / "stage2", evaluation=_evaluation())
    page = _Page(report_page(stage2, earlier=[stage1], manifest=MANIFEST))
    for expected in (
        "run 1: stage1",
        "run 2: stage2",
        "loss (nats",
        "learning rate",
        "tokens per second",
        "0.350",  # re-ranked
        "61.0%",
        "Apache-2.0",
        "1,234",
        "minified",
        "BATCH_SIZE = 8",
        "1 unreadable line(s) of metrics.jsonl left out: 7.",
    ):
        assert expected in page.text, expected
    assert page.tags.count("figure") == 6  # loss, learning rate, throughput of both runs


def test_numbers_that_do_not_beat_the_baseline_are_marked(tmp_path):
    page = _Page(report_page(_run(tmp_path / "run", evaluation=_evaluation())))
    assert "1.10 (no better)" in page.text  # 6.7 / 6.1


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path):
    run = _run(
        tmp_path / "<b>run",
        evaluation=_evaluation(HOSTILE),
        config=HOSTILE,
        lines=[
            {"step": 9, "split": HOSTILE, "phase": HOSTILE, HOSTILE: 1.0, f"{HOSTILE}/loss": 2.0}
        ],
    )
    manifest = {
        "recipe": HOSTILE,
        "sources": [{"name": HOSTILE, "files": 1}],
        "languages": {HOSTILE: 1},
    }
    page = _Page(report_page(run, manifest=manifest))
    assert page.tags.count("script") == 1 and "img" not in page.tags and "b" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 8  # nor are $body and ${title} replaced


def test_page_asks_for_nothing_outside_itself(tmp_path):
    page = report_page(_run(tmp_path / "run", evaluation=_evaluation()), manifest=MANIFEST)
    assert not re.search(r"""(?:src|href|@import|url\()\s*=?\s*["'(]?\s*(?:https?:)?//""", page)
    assert not {"link", "img", "iframe", "object"} & set(_Page(page).tags)


def test_page_follows_the_colour_scheme_and_fits_a_phone(tmp_path):
    page = report_page(_run(tmp_path / "run"))
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page


def test_missing_evaluation_manifest_and_metadata_are_named(tmp_path):
    page = _Page(report_page(_run(tmp_path / "run")))
    for expected in (
        "There is no evaluation.json",
        "The corpus manifest was not found",
        "There is no run_metadata.json",
    ):
        assert expected in page.text


@pytest.mark.parametrize(
    ("lengths", "flags"),
    [
        ({"pairs": {"text": 24, "code": 56}}, "--before=STAGE1_MODEL_DIR"),
        ({"decoder_clm": {"targets": 9}}, "--text_length=TOKENS --code_length=TOKENS"),
    ],
)
def test_the_evaluation_to_make_has_the_flags_that_the_run_needs(tmp_path, lengths, flags):
    run = _run(tmp_path / "run", metadata={"task_feature_lengths": lengths})
    assert f"eval --model_dir=MODEL_DIR {flags} --corpus=DIR" in _Page(report_page(run)).text


def test_a_run_on_instructions_alone_names_their_files_and_asks_for_no_corpus(tmp_path):
    files = {"made": {"path": "/data/made.json", "fingerprint": "f00d"}}
    metadata = {"corpus": None, "instruction_files": files}
    page = _Page(report_page(_run(tmp_path / "run", metadata=metadata)))
    assert "trained on files of instructions, made (/data/made.json)." in page.text
    assert "manifest was not found" not in page.text
    assert "There is no evaluation.json" not in page.text
    evaluated = _run(tmp_path / "run", metadata=metadata, evaluation=_evaluation())
    assert "Evaluation on held-out packages" in _Page(report_page(evaluated)).text
    both = _run(tmp_path / "both", metadata={**metadata, "corpus": {"path": "/c"}})
    assert "The corpus manifest was not found" in _Page(report_page(both)).text


def test_losses_that_were_not_finite_are_named(tmp_path):
    run = _run(tmp_path / "run", lines=[{"step": 5, "pairs/loss": float("nan")}])
    assert (
        "pairs/loss was not finite at 1 logged step(s), first at 5" in _Page(report_page(run)).text
    )


def test_phases_are_listed_with_the_step_before_them(tmp_path):
    run = _run(tmp_path / "run", lines=[{"step": 1000, "phase": "second", "pairs/loss": 1.0}])
    assert "1: all; 2: second, after step 3." in _Page(report_page(run)).text


@pytest.mark.parametrize("manifest", [{}, {"splits": None}, {"splits": {}, "sources": []}])
def test_an_empty_manifest_makes_no_empty_table(tmp_path, manifest):
    page = _Page(report_page(_run(tmp_path / "run"), manifest=manifest))
    assert "table" not in page.tags


def test_write_report_puts_the_page_into_the_model_dir(tmp_path):
    path = write_report(_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_stream_with_several_losses_shows_each_and_their_sum(tmp_path):
    line = {"step": 5, "pairs/matching_loss": 0.6, "pairs/text_to_code_loss": 4.0}
    page = _Page(report_page(_run(tmp_path / "run", lines=[line])))
    positions = [page.text.index(title) for title in ("Matching", "Text to code", "Pairs, sum")]
    assert positions == sorted(positions)
    assert "loss (nats per pair)" in page.text and "loss (nats per token)" in page.text


def test_a_run_that_counted_no_tokens_shows_steps_per_second(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "timing/tokens_per_second": 0.0, "timing/steps_per_second": 2.0})
    )
    text = _Page(report_page(RunFiles.read(tmp_path))).text
    assert "steps per second" in text and "tokens per second" not in text


def test_utilisation_stands_beside_throughput_and_padding_among_further_metrics(tmp_path):
    line = {"step": 5, "timing/mfu": 0.4, "pairs/padding_share": 0.25}
    text = _Page(report_page(_run(tmp_path / "run", lines=[line]))).text
    shown = ("Throughput", "Model FLOPs utilisation", "Further metrics", "Pairs: padding share")
    positions = [text.index(title) for title in shown]
    assert positions == sorted(positions)


def test_a_run_on_devices_of_unknown_peak_shows_no_utilisation(tmp_path):
    assert "utilisation" not in _Page(report_page(_run(tmp_path / "run"))).text


@pytest.mark.parametrize(
    "damage", [{"retrieval": [{"mrr": {}}]}, {"losses": 7}, {"samples": ["x"]}]
)
def test_an_evaluation_of_another_shape_is_an_error_with_its_path(tmp_path, damage):
    run = _run(tmp_path / "run", evaluation=damage)
    with pytest.raises(ValueError, match=r"evaluation\.json' is not as `codet5p eval` writes it"):
        report_page(run)
