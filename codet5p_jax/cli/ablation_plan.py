"""The runs of an ablation: which commands there are, what each needs, what is left to do.

    OUT/runs/VARIANT/seed_N/stage1         pretraining
    OUT/runs/VARIANT/seed_N/completion     stage 1 finetuned briefly on completion, to judge it
    OUT/runs/VARIANT/seed_N/stage2         from its own stage 1, or the base's of the same seed

The base is the variant "base".
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.cli import gin_config
from codet5p_jax.cli.pretrain import Recipe
from codet5p_jax.cli.stations import Station, corpus_station, tokenizer_station

BASE = "base"
STAGES = ("stage1", "stage2")
TRAINED = "config.gin"  # in a MODEL_DIR: the configuration in force
FOLDERS = ("model_dir", "corpus_dir", "tokenizer_dir", "initial_checkpoint_path")
ANY_FOLDERS = tuple(f"{name.upper()}=any" for name in FOLDERS)  # of recipes that are only compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlay:
    """A gin file that changes one stage of a recipe.

    Attributes:
        name: Name of the variant: that of the file.
        stage: "stage1" or "stage2": the folder of the file.
        gin_file: Path, or name below gin/.
    """

    name: str
    stage: str
    gin_file: str

    @classmethod
    def from_file(cls, gin_file: str) -> "Overlay":
        """Returns the overlay in `gin_file`.

        Raises:
            GinConfigError: There is no such file; the message gives the nearest names.
            ValueError: Its folder names no stage.
        """
        gin_config.check_file(gin_file)
        path = pathlib.Path(gin_file)
        if path.parent.name not in STAGES:
            raise ValueError(
                f"The overlay {gin_file!r} lies in {path.parent.name!r}, which does not say what "
                f"it changes; put it into a folder called {' or '.join(STAGES)}."
            )
        return cls(name=path.stem, stage=path.parent.name, gin_file=gin_file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is compared with what.

    Attributes:
        recipe: The base.
        base: Its name.
        overlays: The variants.
        seeds: RANDOM_SEED of each run.
        out: Folder of everything.
        corpus: Corpus of all runs.
        tokenizer: Tokenizer of all runs.
        builds_corpus: Whether corpus and tokenizer are made first.
        through_stage2: Whether variants of stage 1 are judged after stage 2 too.
    """

    recipe: Recipe
    base: str
    overlays: Sequence[Overlay]
    seeds: Sequence[int]
    out: pathlib.Path
    corpus: pathlib.Path
    tokenizer: pathlib.Path
    builds_corpus: bool
    through_stage2: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for two variants of one name."""
        names = [BASE, *(overlay.name for overlay in self.overlays)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Two variants are called {', '.join(twice)}; a variant has the name of its file, "
                f"and {BASE!r} is the recipe itself. Rename one."
            )

    def judged(self, stage: str) -> list[str]:
        """Returns the variants that are judged after `stage`, the base first; [] for none."""
        changed = [each.name for each in self.overlays if each.stage == stage]
        if stage == "stage2" and self.through_stage2:
            changed = [each.name for each in self.overlays]
        return [BASE, *changed] if changed or not self.overlays else []

    def overlay(self, variant: str, stage: str) -> str | None:
        """Returns the gin file by which `variant` differs from the base in `stage`."""
        files = [o.gin_file for o in self.overlays if (o.name, o.stage) == (variant, stage)]
        return files[0] if files else None

    def folder(self, variant: str, seed: int) -> pathlib.Path:
        """Returns the folder of a run."""
        return self.out / "runs" / variant / f"seed_{seed}"


def stations(ablation: Ablation) -> list[Station]:
    """Returns the commands in order: all variants of the first seed, then of the next."""
    return [
        *_data_stations(ablation),
        *(s for seed in ablation.seeds for s in _seed(ablation, seed)),
    ]


def judging(stage: str, variant: str, seed: int) -> str:
    """Returns the name of the station whose result holds the metrics of a run."""
    what = {"stage1": "held-out files", "stage2": "held-out pairs"}[stage]
    return _name(variant, seed, what)


def dependents(name: str, planned: Sequence[Station]) -> list[str]:
    """Returns the stations that read what `name` makes, directly or not."""
    found = [name]
    for station in planned:  # in order: what is needed comes before
        if set(found).intersection(station.needs):
            found.append(station.name)
    return found[1:]


def time_left(planned: Sequence[Station], done: Mapping[str, Any]) -> str:
    """Returns how long the stations that are not done may take, by those of their kind that are.

    "" before anything is known; "at least" while a kind has not been run yet.
    """
    seconds: dict[str, list[float]] = {}
    for name, record in done.items():
        seconds.setdefault(_kind(name), []).append(record["seconds"])
    left = [_kind(station.name) for station in planned if station.name not in done]
    known = [kind for kind in left if kind in seconds]
    if not known:
        return ""
    minutes = sum(sum(seconds[kind]) / len(seconds[kind]) for kind in known) / 60
    return f" ({'about' if len(known) == len(left) else 'at least'} {minutes:.0f} min left)"


def resolved(gin_files: Sequence[str], bindings: Sequence[str] = ANY_FOLDERS) -> dict[str, str]:
    """Returns the bindings of a configuration, macros replaced by what they stand for."""
    gin_config.parse(gin_files=gin_files, bindings=bindings)
    return gin_config.resolved_bindings()


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Returns the parameters that two configurations bind differently, folders aside."""
    return sorted(
        name
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name) and name.rpartition(".")[2] not in FOLDERS
    )


def short(name: str) -> str:
    """Returns a parameter as gin files write it, such as "all/curriculum.Phase.streams"."""
    scope, slash, selector = name.rpartition("/")
    return scope + slash + ".".join(selector.split(".")[-3:])


def check_kept_run(station: Station, planned: Sequence[Station]) -> None:
    """Refuses to go on with a run that was started as something else.

    Raises:
        ValueError: The MODEL_DIR of a training station holds a run with other settings, or one
            that started from a run that is gone.
    """
    config = station.result.parent / TRAINED
    if station.words[0] != "train" or not config.exists():
        return
    held, wanted = resolved([str(config)], []), resolved(*_gin(station.words))
    differing = differences(held, wanted)
    if differing:
        name = differing[0]
        raise ValueError(
            f"{config.parent} holds a run of another configuration: {short(name)} is "
            f"{held.get(name, 'not set')} there and {wanted.get(name, 'not set')} now"
            f"{f', and {len(differing) - 1} more differ' if differing[1:] else ''}. Remove the "
            "folder to train it anew, or give another --out."
        )
    for needed in planned:
        gone = needed.words[0] == "train" and not (needed.result.parent / TRAINED).exists()
        if needed.name in station.needs and gone:
            raise ValueError(
                f"{config.parent} was trained from {needed.result.parent}, which is gone. Remove "
                "it too, so that both are trained anew."
            )


def _data_stations(ablation: Ablation) -> list[Station]:
    if not ablation.builds_corpus:
        return []
    corpus = corpus_station(ablation.recipe.corpus, ablation.out)
    tokenizer = tokenizer_station(ablation.recipe.vocab_size, ablation.out)
    return [corpus, dataclasses.replace(tokenizer, needs=[corpus.name])]


def _seed(ablation: Ablation, seed: int) -> Iterator[Station]:
    """Yields the stations of one seed: the base, then each variant, which needs the base's."""
    for variant in [BASE, *(overlay.name for overlay in ablation.overlays)]:
        if variant == BASE or ablation.overlay(variant, "stage1"):
            yield _stage1(ablation, variant, seed)
        if variant in ablation.judged("stage1"):
            yield _completion(ablation, variant, seed)
            yield _held_out_files(ablation, variant, seed)
        if variant in ablation.judged("stage2"):
            yield _stage2(ablation, variant, seed)
            yield _held_out_pairs(ablation, variant, seed)


def _stage1(ablation: Ablation, variant: str, seed: int) -> Station:
    needs = [station.name for station in _data_stations(ablation)]
    return _training(ablation, variant, seed, "stage1", overlay="stage1", needs=needs)


def _completion(ablation: Ablation, variant: str, seed: int) -> Station:
    return _training(
        ablation,
        variant,
        seed,
        "completion",
        initial=ablation.folder(variant, seed) / "stage1",
        needs=[_name(variant, seed, "stage1")],
    )


def _stage2(ablation: Ablation, variant: str, seed: int) -> Station:
    start = variant if ablation.overlay(variant, "stage1") else BASE
    return _training(
        ablation,
        variant,
        seed,
        "stage2",
        overlay="stage2",
        initial=ablation.folder(start, seed) / "stage1",
        needs=[_name(start, seed, "stage1")],
    )


def _training(
    ablation: Ablation,
    variant: str,
    seed: int,
    what: str,
    *,
    needs: Sequence[str],
    overlay: str | None = None,
    initial: pathlib.Path | None = None,
) -> Station:
    """Returns a `codet5p train`; `what` is a recipe's gin file, and the folder."""
    model_dir = ablation.folder(variant, seed) / what
    varied = ablation.overlay(variant, overlay) if overlay else None
    words = [
        "train",
        f"--gin_file={getattr(ablation.recipe, what)}",
        *([f"--gin_file={varied}"] if varied else []),
        f"--gin.MODEL_DIR={model_dir}",
        *([f"--gin.INITIAL_CHECKPOINT_PATH={initial}"] if initial else []),
        f"--gin.CORPUS_DIR={ablation.corpus}",
        f"--gin.TOKENIZER_DIR={ablation.tokenizer}",
        f"--gin.RANDOM_SEED={seed}",
    ]
    return Station(_name(variant, seed, what), words, model_dir / "metrics.jsonl", needs)


def _held_out_files(ablation: Ablation, variant: str, seed: int) -> Station:
    folder = ablation.folder(variant, seed)
    return Station(
        judging("stage1", variant, seed),
        [
            "eval_files",
            f"--model_dir={folder / 'stage1'}",
            f"--completion={folder / 'completion'}",
            f"--lengths_of={ablation.folder(BASE, seed) / 'stage1'}",
            *_data_words(ablation),
        ],
        folder / "stage1" / "eval_files.json",
        [_name(variant, seed, "completion"), _name(BASE, seed, "stage1")],
    )


def _held_out_pairs(ablation: Ablation, variant: str, seed: int) -> Station:
    model_dir = ablation.folder(variant, seed) / "stage2"
    return Station(
        judging("stage2", variant, seed),
        ["eval", f"--model_dir={model_dir}", *_data_words(ablation)],
        model_dir / "evaluation.json",
        [_name(variant, seed, "stage2")],
    )


def _data_words(ablation: Ablation) -> list[str]:
    return [f"--corpus={ablation.corpus}", f"--tokenizer={ablation.tokenizer}"]


def _name(variant: str, seed: int, what: str) -> str:
    return f"{variant}, seed {seed}: {what}"


def _kind(name: str) -> str:
    return name.rpartition(": ")[2]


def _gin(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the gin files and the bindings of a `codet5p train`."""
    files = [word.removeprefix("--gin_file=") for word in words if word.startswith("--gin_file=")]
    bound = [word.removeprefix("--gin.") for word in words if word.startswith("--gin.")]
    return files, bound
