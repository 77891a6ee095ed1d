"""`codet5p report`: curves, evaluation, samples and corpus of a run as one HTML page."""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any

from codet5p_jax.checkpoint import recorded_path
from codet5p_jax.evaluation.report import write_report
from codet5p_jax.evaluation.run_files import RunFiles, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p report` to `parser`."""
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="directory of the training run")
    parser.add_argument(
        "--also",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="MODEL_DIRs of earlier stages, oldest first; their curves come first",
    )
    parser.add_argument(
        "--corpus", metavar="DIR", help="corpus directory (default: the one in the run's metadata)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes MODEL_DIR/report.html and prints where it lies."""
    main, *earlier = map(RunFiles.read, [arguments.model_dir, *arguments.also])
    manifest = _manifest(arguments.corpus, main)
    path = write_report(main, earlier=earlier, manifest=manifest)
    print(f"Report: {path} ({path.stat().st_size / 1024:,.0f} KiB, one self-contained page)")


def _manifest(corpus: str | None, run: RunFiles) -> Mapping[str, Any] | None:
    """The manifest of --corpus, else of the corpus that the run's metadata names, else None."""
    if corpus is not None:
        return read_json(pathlib.Path(corpus) / "manifest.json")
    recorded = recorded_path(run.metadata.get("corpus"))
    if recorded is None or not (recorded / "manifest.json").exists():
        return None
    return read_json(recorded / "manifest.json")
