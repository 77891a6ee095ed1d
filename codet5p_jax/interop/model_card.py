"""The README.md of an export: what the model is, how it was trained, how to load it, its limits."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.instruction_prompt import alpaca_prompt
from codet5p_jax.interop.formats import Config, Format


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model comes from; whatever is unknown is said to be so.

    Attributes:
        name: What the card calls the model.
        steps: Training steps taken.
        recipe: Name of the run's recipe or gin file.
        began_from: Name of the model that training began from.
        halves: Side -> what `codet5p init` recorded of the language model that it was made of:
            name and architecture.
        corpus: Name and fingerprint of the corpus, as in the checkpoint's metadata.
        instructions: Name of each set of instructions -> fingerprint of its file.
        languages: Language -> number of files in training.
        licenses: Licence of source code -> number of files in the corpus.
        tokenizer: Fingerprint of the tokenizer.
        losses: Name -> the last one in training and on held-out data; None where there is none.
        evaluation: Contents of evaluation.json: numbers, in any nesting.
        imported_from: Name of the model that was imported and not trained further, if so.
    """

    name: str = "CodeT5+"
    steps: int | None = None
    recipe: str | None = None
    began_from: str | None = None
    halves: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    corpus: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    instructions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    licenses: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tokenizer: str | None = None
    losses: Mapping[str, tuple[float | None, float | None]] = dataclasses.field(
        default_factory=dict
    )
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    imported_from: str | None = None


def model_card(
    config: Config, *, format: Format, provenance: Provenance, left_out: tuple[str, ...]
) -> str:
    """Returns the card in Markdown, with the front matter that model hubs read.

    Args:
        config: Config of the model.
        format: Format of the export.
        provenance: How it was trained.
        left_out: Paths of parameters of the trained model that the export does not hold.
    """
    loading = (provenance.instructions and format.loading_tuned) or format.loading
    sections = (
        _front_matter(format),
        _introduction(config, format, provenance),
        f"## Loading\n\n{loading.strip()}",
        _PROMPT if provenance.instructions else "",
        _training(provenance),
        _losses(provenance.losses),
        _counts("Files in training by language", "language", provenance.languages),
        _counts("Files in the corpus by licence", "licence", provenance.licenses),
        _evaluation(provenance.evaluation),
        _limitations(left_out, provenance),
        _licence(provenance),
    )
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def measures(contents: Any, *, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields (name, value) for every number in nested JSON values, names joined by " / ".

    Rows of a list are named by their first text. An estimate, with "mean", "low" and "high", is
    one value; where there is an entry "all" beside others, such as languages, it stands for them.
    """
    if isinstance(contents, Mapping) and {"mean", "low", "high"} <= contents.keys():
        yield path, "{mean:,.4g} ({low:,.4g} to {high:,.4g})".format(**contents)
    elif isinstance(contents, Mapping) and "all" in contents:
        yield from measures(contents["all"], path=path)
    elif isinstance(contents, Mapping):
        for key, value in contents.items():
            yield from measures(value, path=_joined(path, str(key)))
    elif isinstance(contents, list):
        for number, row in enumerate(contents, 1):
            yield from measures(row, path=_joined(path, _row_name(row) or str(number)))
    elif isinstance(contents, int | float) and not isinstance(contents, bool):
        yield path, f"{contents:,.4g}" if isinstance(contents, float) else f"{contents:,}"


def _row_name(row: Any) -> str | None:
    values = row.values() if isinstance(row, Mapping) else ()
    return next((value for value in values if isinstance(value, str)), None)


def _joined(path: str, name: str) -> str:
    return f"{path} / {name}" if path else name


def _front_matter(format: Format) -> str:
    tasks = {"generate": "text2text-generation", "continue": "text-generation"}
    task = next((tag for does, tag in tasks.items() if does in format.does), "feature-extraction")
    return f"---\nlibrary_name: transformers\ntags:\n- code\n- codet5p\n- {task}\n---"


_TRAINED = (
    "An encoder-decoder language model of source code, pretrained with the objectives of\n"
    "CodeT5+ (Wang et al. 2023, arXiv 2305.07922) by codet5p_jax. This is no release by the\n"
    "authors of that paper."
)

_UNTRAINED = (
    "Two language models, joined by codet5p_jax as the 2B, 6B and 16B of CodeT5+ began (Wang et\n"
    "al. 2023, arXiv 2305.07922, section 3.3) and not trained yet: what joins them is random."
)

_PART = (
    "The language model of a decoder of CodeT5+ (Wang et al. 2023, arXiv 2305.07922, section 3.3)\n"
    "alone, written by codet5p_jax. Where it was frozen, it is the model that it was made of."
)

_PROMPT = f"""
## Instructions

It was tuned to answer instructions in this prompt, which the encoder and the decoder read:

```
{alpaca_prompt("What is to be done.")}
```
"""


def _introduction(config: Config, format: Format, provenance: Provenance) -> str:
    rows = {"architecture": format.architecture, **format.summary(config)}
    return f"# {provenance.name}\n\n{_origin(provenance, format)}\n\n" + _table(
        ("", ""), rows.items()
    )


def _origin(provenance: Provenance, format: Format) -> str:
    if not format.is_whole:
        return _PART
    if provenance.imported_from is not None:
        return _imported(provenance)
    if provenance.halves and provenance.steps == 0:
        return _UNTRAINED
    return _TRAINED


def _imported(provenance: Provenance) -> str:
    return (
        f"The weights of `{provenance.imported_from}`, read and written again by codet5p_jax and\n"
        "not trained further: see that model's own card for its training and licence."
    )


def _training(provenance: Provenance) -> str:
    corpus = ", ".join(f"{key} {value}" for key, value in provenance.corpus.items())
    unknown = "none: instructions alone" if provenance.instructions else "unknown"
    rows = {
        "steps": "unknown" if provenance.steps is None else f"{provenance.steps:,}",
        "recipe": provenance.recipe or "unknown",
        **({"began from": provenance.began_from} if provenance.began_from else {}),
        **{
            f"{side} made of": f"{half['name']}, {half['architecture']}"
            for side, half in provenance.halves.items()
        },
        "corpus": corpus or unknown,
        **{f"instructions {name}": mark for name, mark in provenance.instructions.items()},
        "tokenizer fingerprint": provenance.tokenizer or "unknown",
    }
    return "## Training\n\n" + _table(("", ""), rows.items())


def _losses(losses: Mapping[str, tuple[float | None, float | None]]) -> str:
    if not losses:
        return ""
    rows = (
        (name, *("" if value is None else f"{value:,.4g}" for value in values))
        for name, values in losses.items()
    )
    return "### Last losses\n\n" + _table(("loss", "in training", "on held-out data"), rows)


def _counts(title: str, column: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"### {title}\n\n" + _table(
        (column, "files"), ((name, f"{count:,}") for name, count in rows)
    )


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    rows = list(measures(evaluation))
    if not rows:
        return "## Evaluation\n\nNone was made before this export."
    return (
        "## Evaluation\n\nOn source code held out of training; good and bad numbers alike.\n\n"
        + _table(("measure", "value"), rows)
    )


def _limitations(left_out: tuple[str, ...], provenance: Provenance) -> str:
    heads = ""
    if left_out:
        names = ", ".join(f"`{path}`" for path in left_out)
        heads = (
            f"\n- The trained model has parameters that this format cannot hold: {names}. "
            "Embeddings and matching scores need the original checkpoint."
        )
    known = "It knows the languages of its corpus, as they were when that was collected."
    instructions = "Not tuned to follow instructions, nor filtered for"
    filters = " beyond the filters of the corpus"
    if provenance.instructions:
        instructions = "Each instruction is answered without those before it, and not filtered for"
    if provenance.instructions and not provenance.corpus:
        names = ", ".join(f"`{name}`" for name in provenance.instructions)
        known = (
            f"It was tuned on the instructions {names} alone; whatever else it knows\n"
            "  is of the model that the tuning began from."
        )
        filters = ""
    return (
        "## Limitations\n\n"
        "- Generated code may be wrong, insecure or not run at all: review and test it.\n"
        f"- {known}\n"
        f"- {instructions}\n  harmful or personal content{filters}.{heads}"
    )


def _licence(provenance: Provenance) -> str:
    sources = "source code and the instructions" if provenance.instructions else "source code"
    text = (
        "## Licence\n\n"
        "The weights carry no licence yet: whoever publishes them chooses one, mindful of the\n"
        f"licences of the {sources} it was trained on. Output may resemble that code."
    )
    if not provenance.halves:
        return text
    names = dict.fromkeys(f"`{half['name']}`" for half in provenance.halves.values())
    return (
        f"{text}\n\nIt holds weights of {' and '.join(names)}, under their own licence: what that "
        "asks, it asks of\nwhoever publishes these, too."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join(lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows])


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
