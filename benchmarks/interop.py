"""Benchmark: import and export in Hugging Face format, their rate and the memory they need.

``python -m benchmarks.interop`` makes random models on the disk, of the shape of CodeT5+ 770M and
of CodeT5+ 2B (its frozen decoder in bfloat16), and runs `codet5p export` and `codet5p import` in a
process of their own each, of which time and the largest resident memory are read. Files are in the
page cache and modules are imported: reading the disk is not measured. Writing is, down to the disk,
so the disk's own rate is measured beside it: bytes as many, from memory to one file and its fsync.
The limit is on the conversion, from files in the page cache to tensors of the other side.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.paired import RESULTS

LEAST_RATE = 0.5e9  # bytes a second, of the 770M
MOST_ABOVE_LARGEST = 1.3e9  # bytes above the largest tensor, of the export of the 2B
SIZES = ("770m", "2b")
_BLOCK = 16 * 2**20


def main() -> None:
    """Measures, prints a table and writes benchmarks/results/interop.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work_dir", type=pathlib.Path, help="17 GB (default: a temporary folder)")
    parser.add_argument("--turns", type=int, default=3, help="of the 770M (default: 3)")
    parser.add_argument("--child", nargs="+", metavar="WORD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return _child(*arguments.child)
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        work = pathlib.Path(folder)
        rows = [
            *(row for _ in range(arguments.turns) for row in _measured(work, "770m")),
            *_measured(work, "2b"),
        ]
    result = _result(rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "interop.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _print(rows, result)
    return None


def _measured(work: pathlib.Path, size: str) -> Iterator[dict[str, Any]]:
    """Yields the figures of export and import of one size; what was written is removed."""
    model_dir, exported, imported = (work / f"{size}_{n}" for n in ("run", "export", "import"))
    if not model_dir.exists():
        _run("make", size, model_dir)
    steps = {
        "export": ("export", f"--model_dir={model_dir}", f"--out={exported}"),
        "import": ("import", f"--from={exported}", f"--out={imported}"),
    }
    for name, words in steps.items():
        if name == "import" and size == "2b":
            continue  # as of the 770M; its limit is that of the export
        read = exported if name == "import" else model_dir
        num_bytes = _warm(read)
        figures = _run("command", *words)
        disk = _disk_rate(work / "probe", min(num_bytes, 3_000_000_000))
        yield {
            "model": size,
            "command": name,
            "bytes": num_bytes,
            "rate": num_bytes / figures["seconds"],
            "rate_of_conversion": num_bytes / figures["conversion_seconds"],
            "disk_rate": disk,
            "largest_tensor": _largest(exported),
            **figures,
        }
    _run("remove", exported, imported)


def _run(*words: Any) -> dict[str, Any]:
    """Returns what a process of its own says of its work."""
    command = [sys.executable, "-m", "benchmarks.interop", "--child", *map(str, words)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    # Flags of `codet5p` begin with dashes, which argparse would take for those of this program.
    command[5:] = [word.replace("--", "++", 1) for word in command[5:]]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _child(what: str, *words: str) -> None:
    words = tuple(word.replace("++", "--", 1) for word in words)
    if what == "make":
        _make(words[0], pathlib.Path(words[1]))
    elif what == "remove":
        import shutil

        for word in words:
            shutil.rmtree(word, ignore_errors=True)
    else:
        from codet5p_jax.cli import export, import_  # noqa: F401  # not timed
        from codet5p_jax.cli.main import main as codet5p

        before, cpu_before = time.perf_counter(), time.process_time()
        try:
            codet5p(words)
        except SystemExit as end:
            if end.code:
                raise
        seconds, cpu_seconds = time.perf_counter() - before, time.process_time() - cpu_before
        figures = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": _peak_bytes()}
        before = time.perf_counter()
        _convert(*words)
        print(json.dumps({**figures, "conversion_seconds": time.perf_counter() - before}))
        return
    print("{}")


def _convert(command: str, source: str, _: str) -> None:
    """Does what the command does, without writing."""
    from codet5p_jax.checkpoint import load_checkpoint
    from codet5p_jax.interop.huggingface import default_format, format_called, import_model
    from codet5p_jax.interop.names import to_tensors

    folder = source.partition("=")[2]
    if command == "import":
        import_model(folder)
        return
    checkpoint = load_checkpoint(folder, stored=True)
    record = format_called(default_format(checkpoint.config))
    names, sizes = record.names(checkpoint.config), record.sizes(checkpoint.config)
    for tensor in to_tensors(checkpoint.params, names, sizes=sizes):
        tensor.read()


def _peak_bytes() -> int:
    """Largest resident memory of this process, without that of the one it was forked from."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM; this benchmark needs Linux.")


def _make(size: str, model_dir: pathlib.Path) -> None:
    """Writes a MODEL_DIR with random parameters and a tokenizer of the model's size."""
    import jax
    import ml_dtypes
    from flax import linen as nn

    from codet5p_jax.models.codet5p import abstract_params, language_model_paths
    from codet5p_jax.models.sizes import model_config
    from codet5p_jax.training.checkpoints import save_params

    config = model_config(f"codet5p_{size}")
    shapes = nn.unbox(abstract_params(config))
    frozen = language_model_paths(config, shapes)
    noise = np.random.default_rng(0).standard_normal(1 << 20, np.float32) * np.float32(0.02)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = "/".join(key.key for key in path)
        numbers = np.resize(noise, leaf.shape)
        return numbers.astype(ml_dtypes.bfloat16) if name in frozen else numbers

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    tokenizer = _tokenizer(size)
    tokenizer.save(model_dir / "tokenizer")
    metadata = {
        "model": config.to_dict(),
        "tokenizer": {
            "path": str(model_dir / "tokenizer"),
            "fingerprint": tokenizer.fingerprint,
        },
    }
    save_params(model_dir, params, metadata)


def _tokenizer(size: str) -> Any:
    """Returns a tokenizer with as many ids as the released one, its merges made up."""
    from tokenizers import pre_tokenizers

    from codet5p_jax.tokenizer import CONTROL_TOKENS, END_OF_TEXT, CodeGenTokenizer, CodeTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    first, total = (CONTROL_TOKENS, 32_000) if size == "770m" else ((), 50_256)
    merges = [(a, b) for a in letters for b in letters][: total - len(letters) - len(first)]
    entries = [*first, *letters, *(a + b for a, b in merges)]
    if size == "770m":
        return CodeTokenizer({entry: i for i, entry in enumerate(entries)}, merges)
    vocab = {entry: i for i, entry in enumerate([*entries, END_OF_TEXT])}
    runs = [*(" " * n for n in range(31, 1, -1)), *("\t" * n for n in range(9, 1, -1))]
    return CodeGenTokenizer(vocab, merges, whitespace_runs=runs)


def _warm(folder: pathlib.Path) -> int:
    """Reads all files of a folder into the page cache; returns their bytes."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    total += len(block)
    return total


def _disk_rate(path: pathlib.Path, num_bytes: int) -> float:
    """Returns the bytes a second of writing so many to the disk."""
    block = np.random.default_rng(0).bytes(_BLOCK)
    before = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(num_bytes // _BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    rate = num_bytes / (time.perf_counter() - before)
    path.unlink()
    return rate


def _largest(exported: pathlib.Path) -> int:
    from codet5p_jax.interop.folders import read_tensors

    return max(tensor.num_bytes for tensor in read_tensors(exported))


def _result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rates = {
        command: float(
            np.median(
                [
                    row["rate_of_conversion"]
                    for row in rows
                    if (row["model"], row["command"]) == ("770m", command)
                ]
            )
        )
        for command in ("export", "import")
    }
    (large,) = (row for row in rows if row["model"] == "2b")
    above = large["peak_bytes"] - large["largest_tensor"]
    return {
        "rows": rows,
        "rates_770m": rates,
        "least_rate": LEAST_RATE,
        "rate_met": min(rates.values()) >= LEAST_RATE,
        "above_largest_tensor_2b": above,
        "most_above_largest_tensor": MOST_ABOVE_LARGEST,
        "memory_met": above <= MOST_ABOVE_LARGEST,
    }


def _print(rows: list[dict[str, Any]], result: dict[str, Any]) -> None:
    columns = (
        "GB/s of conversion",
        "GB/s to the disk",
        "the disk's own GB/s",
        "peak GB",
        "largest tensor GB",
    )
    table = Table("interop", "GB", *columns)
    names = ("rate_of_conversion", "rate", "disk_rate", "peak_bytes", "largest_tensor")
    for row in rows:
        figures = (f"{row[name] / 1e9:.2f}" for name in ("bytes", *names))
        table.add_row(f"{row['command']} {row['model']}", *figures)
    console = Console()
    console.print(table)
    console.print(
        f"Conversion of the 770M at least {LEAST_RATE / 1e9} GB/s: {_said(result['rate_met'])}. "
        f"Export of the 2B at most {MOST_ABOVE_LARGEST / 1e9} GB above its largest tensor: "
        f"{_said(result['memory_met'])} ({result['above_largest_tensor_2b'] / 1e9:.2f} GB).",
        highlight=False,
    )


def _said(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
