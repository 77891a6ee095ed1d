"""`codet5p export`: writes a checkpoint as a folder in Hugging Face format. Needs no torch."""

import argparse
import pathlib
from typing import Any

from codet5p_jax.checkpoint import Checkpoint, load_checkpoint, recorded_path
from codet5p_jax.evaluation.run_files import RunFiles, loss_names, read_json, read_metrics, series
from codet5p_jax.interop.huggingface import FORMATS, export_model
from codet5p_jax.interop.model_card import Provenance
from codet5p_jax.training.initialization import language_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p export` to `parser`."""
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="MODEL_DIR of the run")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the newest)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="; ".join(f"{name}: {record.description}" for name, record in FORMATS.items())
        + " (default: t5, or codet5p where the halves are of other families)",
    )
    parser.add_argument(
        "--tokenizer_dir", metavar="DIR", help="tokenizer (default: where training found it)"
    )
    parser.add_argument(
        "--max_shard_gb",
        type=float,
        default=5.0,
        metavar="GB",
        help="split larger models into files of this size (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the folder, and prints what is in it and what had no place in it."""
    checkpoint = load_checkpoint(
        arguments.model_dir,
        step=arguments.step,
        tokenizer_dir=arguments.tokenizer_dir,
        stored=True,
    )
    export = export_model(
        checkpoint.params,
        checkpoint.config,
        tokenizer=checkpoint.tokenizer,
        out_dir=arguments.out,
        format=arguments.format,
        provenance=provenance(arguments.model_dir, checkpoint),
        max_shard_bytes=int(arguments.max_shard_gb * 1e9),
    )
    print(
        f"Exported step {checkpoint.step:,} of {arguments.model_dir} to {export.folder}: "
        f"{export.parameters:,} parameters in {export.tensors} tensors, "
        f"{export.num_bytes / 1e6:,.1f} MB."
    )
    if export.left_out:
        print(
            f"Left out, because the format {export.format} has no place for them: "
            f"{', '.join(export.left_out)}. They stay in {arguments.model_dir}."
        )


def provenance(model_dir: str, checkpoint: Checkpoint) -> Provenance:
    """Returns what the model card says about the training of a checkpoint."""
    metadata = checkpoint.metadata
    corpus = metadata.get("corpus") or {}
    folder = recorded_path(corpus)
    manifest = _json_if_there(folder / "manifest.json") if folder else {}
    began_from = recorded_path(metadata.get("initial_checkpoint"))
    names = {"recipe": manifest.get("recipe"), "fingerprint": corpus.get("fingerprint")}
    return Provenance(
        name=pathlib.Path(model_dir).resolve().name,
        steps=checkpoint.step,
        recipe=metadata.get("recipe"),
        began_from=began_from.name if began_from else None,
        halves={
            side: half for side, half in (language_models(metadata) or {}).items() if side != "seed"
        },
        corpus={key: value for key, value in names.items() if value},
        instructions={
            name: file["fingerprint"]
            for name, file in (metadata.get("instruction_files") or {}).items()
        },
        languages={
            name: splits["train"]["code_files"]
            for name, splits in manifest.get("languages", {}).items()
        },
        licenses={
            name: counts["code_files"] for name, counts in manifest.get("licenses", {}).items()
        },
        tokenizer=checkpoint.tokenizer.fingerprint,
        imported_from=metadata.get("imported_from"),
        losses=_last_losses(pathlib.Path(model_dir), checkpoint.step),
        evaluation=_json_if_there(pathlib.Path(model_dir) / "evaluation.json"),
    )


def _last_losses(
    model_dir: pathlib.Path, step: int
) -> dict[str, tuple[float | None, float | None]]:
    """Returns the last losses up to `step`, in training and on held-out data."""
    try:
        records, _ = read_metrics(model_dir / "metrics.jsonl")
    except (FileNotFoundError, ValueError):
        return {}  # it was imported, or stopped before anything was logged
    run = RunFiles(directory=model_dir, records=tuple(r for r in records if r["step"] <= step))

    def last(name: str, split: str) -> float | None:
        values = series(run, name, split=split)[1]
        return values[-1] if values else None

    return {name: (last(name, "train"), last(name, "eval")) for name in loss_names(run)}


def _json_if_there(path: pathlib.Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
