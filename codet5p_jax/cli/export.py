"""`codet5p export`: writes a checkpoint as a folder in Hugging Face format. Needs no torch."""

import argparse
import json
import pathlib
from typing import Any

from codet5p_jax.checkpoint import Checkpoint, load_checkpoint, recorded_path
from codet5p_jax.interop.huggingface import FORMATS, export_model
from codet5p_jax.interop.model_card import Provenance


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
    corpus = checkpoint.metadata.get("corpus") or {}
    folder = recorded_path(corpus)
    manifest = _json_if_there(folder / "manifest.json") if folder else {}
    return Provenance(
        name=pathlib.Path(model_dir).resolve().name,
        steps=checkpoint.step,
        recipe=checkpoint.metadata.get("recipe"),
        corpus={
            key: value
            for key, value in (
                ("recipe", manifest.get("recipe")),
                ("fingerprint", corpus.get("fingerprint")),
            )
            if value
        },
        languages={
            name: splits["train"]["code_files"]
            for name, splits in manifest.get("languages", {}).items()
        },
        licenses={
            name: counts["code_files"] for name, counts in manifest.get("licenses", {}).items()
        },
        tokenizer=checkpoint.tokenizer.fingerprint,
        imported_from=checkpoint.metadata.get("imported_from"),
        evaluation=_json_if_there(pathlib.Path(model_dir) / "evaluation.json"),
    )


def _json_if_there(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}, quoted in the model card, is no JSON: {error}. Remove it or write it again."
        ) from error
