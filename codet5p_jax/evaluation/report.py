"""One self-contained HTML page about a training run: curves, evaluation, samples, corpus."""

import datetime
import importlib.resources
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from codet5p_jax.evaluation import results_section
from codet5p_jax.evaluation.answers_section import answers_section
from codet5p_jax.evaluation.charts import Line, line_chart
from codet5p_jax.evaluation.corpus_section import corpus_section
from codet5p_jax.evaluation.markup import (
    Markup,
    definitions,
    folded,
    join,
    shown_number,
    tag,
)
from codet5p_jax.evaluation.run_files import (
    RunFiles,
    is_sum_of_losses,
    loss_names,
    metric_names,
    non_finite_steps,
    phase_starts,
    series,
    splits,
)

LEARNING_RATE = "learning_rate"
TOKENS = "timing/tokens_per_second"
STEPS = "timing/steps_per_second"
MFU = "timing/mfu"
TITLES = {MFU: "Model FLOPs utilisation", "timing/model_flops_per_second": "Model FLOPs per second"}


def write_report(
    run: RunFiles,
    *,
    earlier: Sequence[RunFiles] = (),
    manifest: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes report.html into the run's MODEL_DIR and returns its path.

    Args:
        run: The run to report on.
        earlier: Runs it was started from, oldest first; their curves are shown before its own.
        manifest: manifest.json of the corpus, None if it is not at hand.
    """
    path = run.directory / "report.html"
    path.write_text(report_page(run, earlier=earlier, manifest=manifest), encoding="utf-8")
    return path


def report_page(
    run: RunFiles,
    *,
    earlier: Sequence[RunFiles] = (),
    manifest: Mapping[str, Any] | None = None,
) -> str:
    """Returns the page as text; it refers to nothing outside itself. See `write_report`.

    Raises:
        ValueError: If evaluation.json has not the shape that `codet5p eval` writes.
    """
    name = run.directory.resolve().name
    template = importlib.resources.files("codet5p_jax.evaluation") / "report_page.html"
    tiles, results, samples = _evaluation(run)
    body = [
        tag("h1", f"Training report: {name}"),
        tag("p", _summary(run, earlier), class_="note"),
        tiles,
        results,
        *(_curves(each, number) for number, each in enumerate([*earlier, run], start=1)),
        samples,
        answers_section(run.answers),
        corpus_section(manifest, instruction_files=run.instruction_files),
        *(_what_was_run(each) for each in [*earlier, run]),
    ]
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=join([f"{name}: training report"]), body=join(body)
    )


def _evaluation(run: RunFiles) -> tuple[Markup | None, Markup | None, Markup | None]:
    found = run.evaluation or {}
    try:
        return (
            results_section.tiles(found),
            _results(run),
            results_section.samples(found),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(run.directory / 'evaluation.json')!r} is not as `codet5p eval` writes it "
            f"({type(error).__name__}: {error}). Write it again, or remove it."
        ) from error


def _results(run: RunFiles) -> Markup | None:
    if run.evaluation is None and run.instruction_files:
        return None  # there are no held-out packages
    lengths = run.metadata.get("task_feature_lengths")
    told = lengths is None or "pairs" in lengths
    flags = "--before=STAGE1_MODEL_DIR" if told else "--text_length=TOKENS --code_length=TOKENS"
    return results_section.results(run.evaluation, flags=flags)


def _summary(run: RunFiles, earlier: Sequence[RunFiles]) -> str:
    steps = sum(each.records[-1]["step"] for each in [*earlier, run])
    hours = sum(_seconds(each) for each in [*earlier, run]) / 3600
    last = run.records[-1].get("time")
    when = _date(last) if isinstance(last, int | float) else "an unknown time"
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    return f"{steps:,.0f} steps in {len(earlier) + 1} run(s), {spent} of training; last log {when}."


def _seconds(run: RunFiles) -> float:
    times = [record["time"] for record in run.records if "time" in record]
    return float(max(times) - min(times)) if times else 0.0


def _date(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _curves(run: RunFiles, number: int) -> Markup:
    """The charts of one run: every loss, learning rate, throughput, the rest folded away."""
    names = loss_names(run)
    losses = [
        _chart(
            run, name, title=_loss_title(name, names), y_label=f"loss ({_loss_unit(name, names)})"
        )
        for name in names
    ]
    rates = [
        _chart(run, LEARNING_RATE, title="Learning rate", y_label="learning rate", from_zero=True),
        _throughput(run),
        *_utilisation(run),
    ]
    further = [
        _chart(
            run, name, title=_metric_title(name), y_label=name.rpartition("/")[2].replace("_", " ")
        )
        for name in metric_names(run)
        if name not in {*names, LEARNING_RATE, TOKENS, STEPS, MFU}
    ]
    return tag(
        "section",
        tag("h2", f"Training curves, run {number}: {run.directory.resolve().name}"),
        *_remarks(run),
        tag("div", *losses, *rates, class_="charts"),
        folded(f"Further metrics ({len(further)})", tag("div", *further, class_="charts"))
        if further
        else None,
    )


def _chart(
    run: RunFiles, name: str, *, title: str, y_label: str, from_zero: bool = False
) -> Markup:
    lines = []
    for style, split in enumerate(splits(run), start=1):
        x, y = series(run, name, split=split)
        lines.append(Line(label=split, x=x, y=y, style=min(style, 4)))
    markers = [step for step, _ in phase_starts(run)[1:]]
    return line_chart(
        lines, title=title, x_label="step", y_label=y_label, markers=markers, from_zero=from_zero
    )


def _throughput(run: RunFiles) -> Markup:
    """Tokens per second; steps per second of a run that counted no tokens."""
    counted = any(series(run, TOKENS, split="train")[1])
    name, label = (TOKENS, "tokens per second") if counted else (STEPS, "steps per second")
    return _chart(run, name, title="Throughput", y_label=label, from_zero=True)


def _utilisation(run: RunFiles) -> list[Markup]:
    """MFU, of a run on devices whose peak is known."""
    if MFU not in metric_names(run):
        return []
    return [_chart(run, MFU, title=TITLES[MFU], y_label="share of the peak", from_zero=True)]


def _metric_title(name: str) -> str:
    return TITLES.get(name) or _words(name.replace("/", ": "))


def _loss_title(name: str, names: Sequence[str]) -> str:
    if name == "loss":
        return "Sum of all objectives"
    stream, _, part = name.rpartition("/")
    if part == "loss":
        return _words(stream) + (", sum of its losses" if is_sum_of_losses(name, names) else "")
    return _words(part.removesuffix("_loss"))


def _words(name: str) -> str:
    words = name.replace("_", " ").replace("clm", "causal LM")
    return words[:1].upper() + words[1:]


def _loss_unit(name: str, names: Sequence[str]) -> str:
    if "contrastive" in name or "matching" in name:
        return "nats per pair"
    return "nats" if is_sum_of_losses(name, names) else "nats per token"


def _remarks(run: RunFiles) -> list[Markup]:
    """What a reader must know about the curves: phases, lost lines, values that are no number."""
    phases = phase_starts(run)
    remarks = []
    if len(phases) > 1:
        later = [f"{n}: {p}, after step {s:,.0f}" for n, (s, p) in enumerate(phases[1:], start=2)]
        named = "; ".join([f"1: {phases[0][1]}", *later])
        remarks.append(tag("p", f"Phases (dashed lines). {named}.", class_="note"))
    if run.skipped_lines:
        numbers = ", ".join(map(str, run.skipped_lines[:10]))
        text = f"{len(run.skipped_lines)} unreadable line(s) of metrics.jsonl left out: {numbers}."
        remarks.append(tag("p", text, class_="note warn"))
    for name in loss_names(run):
        steps = non_finite_steps(run, name)
        if steps:
            text = f"{name} was not finite at {len(steps)} logged step(s), first at {steps[0]:,}."
            remarks.append(tag("p", text, class_="note warn"))
    return remarks


def _what_was_run(run: RunFiles) -> Markup:
    """Directory, metadata of the checkpoint and the resolved config of one run."""
    return tag(
        "section",
        tag("h2", f"What was run: {run.directory.resolve().name}"),
        definitions([("MODEL_DIR", run.directory), *_flatten(run.metadata)]),
        None if run.metadata else tag("p", "There is no run_metadata.json.", class_="note"),
        folded("config.gin", tag("pre", run.config))
        if run.config
        else tag("p", "There is no config.gin.", class_="note"),
    )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested metadata as (dotted name, value)."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", shown_number(value)))
    return flat
