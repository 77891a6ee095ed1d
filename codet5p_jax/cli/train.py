"""`codet5p train`: from gin files to a training run."""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import optax
from jax.typing import DTypeLike

from codet5p_jax.cli import gin_config, train_flags
from codet5p_jax.cli.instruction_answers import ANSWERS_FILE, answer_writer
from codet5p_jax.cli.tokenizer_checks import check_fits
from codet5p_jax.models.config_fields import without_execution_fields
from codet5p_jax.models.encoder_decoder import ModelConfig
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.objective import BatchShapes
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer
from codet5p_jax.training.curriculum import Curriculum
from codet5p_jax.training.loop import Run, Schedule
from codet5p_jax.training.loss_guard import STOP_ON_NON_FINITE, LossGuard
from codet5p_jax.training.multihost import ALONE, Processes, join, local_rows
from codet5p_jax.training.parameter_rules import EVERY_PARAMETER, ParameterRules
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program
from codet5p_jax.training.stream_checks import check_streams

VERSIONED = ("codet5p_jax", "jax", "flax", "optax", "orbax-checkpoint", "seqio")


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns 0, or 128 + the signal that stopped the run."""
    bound = gin_config.bind(train, gin_files=arguments.gin_file, bindings=arguments.gin_bindings)
    with join(train_flags.cluster_of(arguments)) as processes:
        processes.check_same({**_macros(), **gin_config.resolved_bindings(), **_code()})
        return bound(recipe=pathlib.Path(arguments.gin_file[0]).stem, processes=processes)


def train(
    *,
    model_dir: str,
    corpus_dir: str | None,
    tokenizer_dir: str,
    curriculum: Curriculum,
    learning_rate: optax.Schedule,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
    partitioner: Partitioner,
    schedule: Schedule,
    train_steps: int,
    parameter_rules: ParameterRules = EVERY_PARAMETER,
    frozen_dtype: DTypeLike | None = None,
    loss_guard: LossGuard = STOP_ON_NON_FINITE,
    peak_flops_per_device: float | None = None,
    cache_dir: str | None = None,
    language_temperature: float | None = None,
    objective_rates: Mapping[str, int | float] | None = None,
    mask_whole_words: bool = True,
    instruction_files: Mapping[str, str] | None = None,
    eval_samples: int = 4,
    eval_sample_length: int = 128,
    recipe: str | None = None,
    initial_checkpoint_path: str | None = None,
    seed: int = 0,
    processes: Processes = ALONE,
) -> int:
    """Trains a curriculum on a corpus or on instructions; gin binds the arguments.

    Args:
        model_dir: MODEL_DIR, where everything the run writes goes.
        corpus_dir: Folder written by `codet5p corpus build`; None where all streams read
            instructions.
        tokenizer_dir: Folder written by `codet5p tokenizer train`.
        curriculum: What is trained when.
        learning_rate: Step -> learning rate.
        optimizer: Learning rate -> optax transformation.
        partitioner: Places state and batches on the devices.
        schedule: How often to log, save and evaluate.
        train_steps: TRAIN_STEPS, which the learning rate is planned for; that of all phases.
        parameter_rules: Which parameters are trained, and how fast.
        frozen_dtype: What frozen parameters are kept in; None keeps float32.
        loss_guard: What happens when a loss is no number, or leaps.
        peak_flops_per_device: FLOPs per second of one device, for MFU; None looks them up.
        cache_dir: Folder written by `codet5p cache`; None tokenises while training.
        language_temperature: Languages are drawn in proportion to size ** (1 / temperature);
            None means CodeT5's, 1 / 0.7.
        objective_rates: Examples of each objective in the mixture `unimodal`, in proportion; None
            means those of the paper's batches.
        mask_whole_words: Whether span denoising masks runs of words, or of tokens.
        instruction_files: Name -> file in Alpaca's format, for the tasks instruction_NAME.
        eval_samples: Held-out instructions that are answered behind each evaluation.
        eval_sample_length: Tokens of such an answer at most.
        recipe: What the run is called in its metadata and in the model card of its export.
        initial_checkpoint_path: MODEL_DIR whose newest parameters a new run starts from.
        seed: Root of the run's randomness.
        processes: Those that train together.
    """
    import tasks

    _check_steps(curriculum, train_steps)
    _check_schedule(learning_rate)
    if corpus_dir is not None:
        _check_folder("CORPUS_DIR", corpus_dir)
    _check_folder("TOKENIZER_DIR", tokenizer_dir)
    _check_corpus(curriculum, corpus_dir, made_of_it=tasks.MIXTURES)
    tasks.register(
        corpus_dir,
        tokenizer_dir,
        cache_dir=cache_dir,
        temperature=(
            tasks.SAMPLING_TEMPERATURE if language_temperature is None else language_temperature
        ),
        objective_rates=objective_rates or tasks.OBJECTIVE_RATES,
        mask_whole_words=mask_whole_words,
        instruction_files=instruction_files,
    )
    check_streams(curriculum, batch_shapes=_batch_shapes, partitioner=partitioner)
    tokenizer = load_tokenizer(tokenizer_dir)
    run_metadata = {
        "recipe": recipe,
        "model": _shared_config(curriculum, tokenizer).to_dict(),
        "tokenizer": _recorded(tokenizer_dir, tokenizer.fingerprint),
        "corpus": corpus_dir and _recorded(corpus_dir, _corpus_fingerprint(corpus_dir)),
        "task_feature_lengths": _recorded_lengths(curriculum),
        "mask_whole_words": mask_whole_words,
        "instruction_files": _recorded_files(instruction_files or {}),
        "mesh": dict(partitioner.mesh.shape),
        "versions": _versions(),
        "git_revision": _git_revision(),
    }
    program = Program(
        curriculum=curriculum,
        learning_rate=learning_rate,
        optimizer=optimizer,
        partitioner=partitioner,
        parameter_rules=parameter_rules,
        frozen_dtype=frozen_dtype,
        loss_guard=loss_guard,
        seed=seed,
    )
    answers = None
    if instruction_files and eval_samples:
        answers = answer_writer(
            program,
            tokenizer,
            instruction_files,
            path=pathlib.Path(model_dir) / ANSWERS_FILE if processes.is_first else None,
            count=eval_samples,
            max_length=eval_sample_length,
        )
    job = Run(
        model_dir=model_dir,
        program=program,
        open_batches=functools.partial(_open_batches, partitioner=partitioner),
        identity=_identity(run_metadata),
        metadata=run_metadata,
        schedule=schedule,
        peak_flops_per_device=peak_flops_per_device,
        initial_checkpoint_path=initial_checkpoint_path,
        on_evaluation=answers,
        processes=processes,
    )
    return job.train(on_started=lambda: _write_config(model_dir, run_metadata))


def _batch_shapes(dataset: Any) -> BatchShapes:
    from codet5p_jax.data.batches import batch_shapes

    return batch_shapes(dataset)


def _open_batches(dataset: Any, *, partitioner: Partitioner) -> Any:
    from codet5p_jax.data.batches import batches

    rows = local_rows(partitioner.mesh, partitioner.batch_axes, dataset.batch_size)
    return batches(dataset, rows=rows)


def _recorded(path: str, fingerprint: str) -> dict[str, str]:
    return {"path": os.path.abspath(path), "fingerprint": fingerprint}


def _recorded_files(instruction_files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    import tasks

    fingerprints = tasks.instruction.fingerprints(instruction_files).values()
    return {
        name: _recorded(path, fingerprint)
        for (name, path), fingerprint in zip(instruction_files.items(), fingerprints, strict=True)
    }


def _identity(run_metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what must not change while a run goes on."""
    corpus, files = run_metadata["corpus"], run_metadata["instruction_files"]
    return {
        "model": without_execution_fields(run_metadata["model"]),
        "tokenizer": run_metadata["tokenizer"]["fingerprint"],
        **({"corpus": corpus["fingerprint"]} if corpus else {}),
        **{f"instruction_{name}": file["fingerprint"] for name, file in files.items()},
    }


def _recorded_lengths(curriculum: Curriculum) -> dict[str, dict[str, int]]:
    """Returns the lengths of an example by stream; those of packed tasks by their objective."""
    lengths: dict[str, dict[str, int]] = {}
    for name, stream in curriculum.streams.items():
        lengths[name] = dict(stream.dataset.task_feature_lengths)
    for stream in curriculum.streams.values():
        for task, example in (stream.dataset.example_lengths or {}).items():
            lengths[task.removeprefix("unimodal_")] = dict(example)
    return lengths


def _check_schedule(learning_rate: Any) -> None:
    try:
        learning_rate(0)
    except TypeError as error:
        raise ValueError(
            f"SCHEDULE is {learning_rate!r}, which gives no learning rate of a step ({error}). "
            "Set it to a call, with parentheses: @schedules.linear()."
        ) from error


def _check_steps(curriculum: Curriculum, train_steps: int) -> None:
    if curriculum.steps == train_steps:
        return
    phases = ", ".join(f"{phase.name} {phase.steps}" for phase in curriculum.phases)
    raise ValueError(
        f"TRAIN_STEPS is {train_steps}, but the phases have {curriculum.steps} steps ({phases}); "
        "the learning rate would end too early or too late. Set TRAIN_STEPS to their sum."
    )


def _check_corpus(
    curriculum: Curriculum, corpus_dir: str | None, *, made_of_it: Sequence[str]
) -> None:
    for name, stream in curriculum.streams.items():
        read = stream.dataset.mixture_or_task_name
        if corpus_dir is None and any(f"{read}_".startswith(f"{m}_") for m in made_of_it):
            raise ValueError(
                f"CORPUS_DIR is None, but stream {name!r} reads {read!r}, which is made of a "
                "corpus; instructions alone need none. Give the output of `codet5p corpus build`."
            )


def _check_folder(name: str, folder: str) -> None:
    if pathlib.Path(folder).is_dir():
        return
    raise FileNotFoundError(
        f"{name} is {folder!r}, which is no folder. Give the output of `codet5p "
        f"{'corpus build' if name == 'CORPUS_DIR' else 'tokenizer train'}`."
    )


def _shared_config(curriculum: Curriculum, tokenizer: Tokenizer) -> ModelConfig:
    """Returns the model config that all streams share, checked against the tokenizer."""
    configs = {name: s.objective.model.config for name, s in curriculum.streams.items()}
    first, *others = configs
    for other in others:
        if configs[other] != configs[first]:
            raise ValueError(
                f"Streams {first!r} and {other!r} have different models; bind both to %MODEL."
            )
    config = configs[first]
    streams = curriculum.streams.items()
    asking = [name for name, s in streams if isinstance(s.objective, BimodalObjective)]
    check_fits(config, tokenizer, asking_streams=asking)
    return config


def _corpus_fingerprint(corpus_dir: str) -> str:
    path = pathlib.Path(corpus_dir) / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(
            f"CORPUS_DIR {corpus_dir!r} holds no manifest.json, so its build did not finish; run "
            "`codet5p corpus build` again."
        )
    return json.loads(path.read_text(encoding="utf-8"))["fingerprint"]


def _write_config(model_dir: str, run_metadata: Mapping[str, Any]) -> None:
    """Writes config.gin, the configuration in force, and run_metadata.json beside it."""
    folder = pathlib.Path(model_dir)
    header = f"# {' '.join(['codet5p', *sys.argv[1:]])}\n# git {run_metadata['git_revision']}\n\n"
    (folder / "config.gin").write_text(header + gin_config.config_text(), encoding="utf-8")
    text = json.dumps(run_metadata, indent=2) + "\n"
    (folder / "run_metadata.json").write_text(text, encoding="utf-8")


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in VERSIONED}


def _macros() -> dict[str, str]:
    """Returns the macros, whose names are what users write; they come first in a message."""
    return {name: repr(value) for name, value in gin_config.macro_values().items()}


def _code() -> dict[str, str]:
    """Returns what the processes of a run must have alike beside their configuration."""
    return {**_versions(), "git revision": _git_revision()}


@functools.cache  # processes compare it before the run records it
def _git_revision() -> str:
    """Returns the commit this code is from, with "+" when files differ; "" where none is known."""
    here = pathlib.Path(__file__).parent
    shipped = here.parents[1] / "git_revision"  # written by those who ship the code without git
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8").strip()
    done = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
