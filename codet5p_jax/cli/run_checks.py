"""Checks of what a run reads and writes: gin files, corpus, tokenizer, MODEL_DIR."""

import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

from codet5p_jax.cli.findings import Finding, Severity, last_line, ok, problem, warning
from codet5p_jax.cli.machine_checks import GIB, nearest_existing

FOLDERS = ("MODEL_DIR", "CORPUS_DIR", "TOKENIZER_DIR")  # that every recipe needs
READ_FOLDERS = ("CACHE_DIR", "INITIAL_CHECKPOINT_PATH")  # that some read
READ_WHOLE = 2 * GIB  # a checkpoint up to this size is read in a second or two


def gin_folders(folders: Sequence[pathlib.Path]) -> list[Finding]:
    """Reads the gin files below each folder.

    Args:
        folders: Those that hold gin/ of the repository or of the package.
    """
    if not folders:
        what = "neither the repository nor the package has a folder gin/"
        return [problem("gin", what, mend="git checkout -- gin")]
    return [_gin_folder(folder) for folder in folders]


def recipe(gin_files: Sequence[str], bindings: Sequence[str]) -> tuple[Finding, dict[str, str]]:
    """Parses a recipe; returns the finding, and the folders it binds, by macro."""
    from codet5p_jax.cli import gin_config

    name = " + ".join(gin_files)
    try:
        gin_config.parse(gin_files=gin_files, bindings=bindings)
    except gin_config.GinConfigError as error:
        what, mend = str(error), "see docs/training.md"
        return problem("recipe", f"{name}: {what}", mend=_correction(what) or mend), {}
    except Exception as error:  # whatever a module that a gin file names raises at import
        what = f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}"
        return problem("recipe", what, mend="mend the module that the gin file names"), {}
    count = len(gin_config.resolved_bindings())
    macros = gin_config.macro_values()
    bound = {name: macros[name] for name in (*FOLDERS, *READ_FOLDERS) if macros.get(name)}
    return ok("recipe", f"{name} parses, {count} parameters bound"), bound


def recipe_program(gin_files: Sequence[str], bindings: Sequence[str]) -> str:
    """Returns a program that prints, in one line, what `recipe` returns; see `read_recipe`."""
    arguments = f"{list(gin_files)!r}, {list(bindings)!r}"
    return (
        "import dataclasses, json\n"
        "from codet5p_jax.cli.run_checks import recipe\n"
        f"finding, bound = recipe({arguments})\n"
        "print(json.dumps([dataclasses.asdict(finding), bound]))"
    )


def read_recipe(line: str | None, *, importable: bool) -> tuple[Finding, dict[str, str]]:
    """Returns what `recipe_program` printed.

    Args:
        line: What it printed; None: it did not come to its end.
        importable: Whether the modules that recipes name can be imported.
    """
    if line is None and importable:
        what = "not parsed in time: the imports took nearly all of it"
        return warning("recipe", what, mend="run codet5p doctor again when the machine is idle"), {}
    if line is None:
        what = "not parsed: it names modules that import TensorFlow and SeqIO"
        return warning("recipe", what, mend="mend the imports, see above"), {}
    values, bound = json.loads(line)
    return Finding(**{**values, "severity": Severity(values["severity"])}), bound


def folder_bindings(bindings: Sequence[str]) -> dict[str, str]:
    """Returns the folders among bindings NAME=VALUE."""
    pairs = (binding.partition("=") for binding in bindings)
    return {name: value.strip("'\"") for name, _, value in pairs if name in FOLDERS}


def folders(given: Mapping[str, str]) -> list[Finding]:
    """Checks each folder that is given, by macro."""
    checks = {
        "MODEL_DIR": model_dir,
        "CORPUS_DIR": corpus_dir,
        "TOKENIZER_DIR": tokenizer_dir,
        "CACHE_DIR": cache_dir,
        "INITIAL_CHECKPOINT_PATH": initial_checkpoint,
    }
    return [
        finding
        for macro, check in checks.items()
        if macro in given
        for finding in check(pathlib.Path(given[macro]))
    ]


def model_dir(folder: pathlib.Path) -> list[Finding]:
    """Writes a file where a run would write, and reads its newest checkpoint."""
    there = nearest_existing(folder)
    refusal = _refusal(there)
    if refusal is not None:
        what = f"{folder} cannot be written: {refusal}"
        return [problem("MODEL_DIR", what, mend="--gin.MODEL_DIR=<a folder that you may write>")]
    if there != folder.absolute():
        return [ok("MODEL_DIR", f"{folder} will be made")]
    return [ok("MODEL_DIR", f"{folder} is writable"), *_checkpoints(folder)]


def corpus_dir(folder: pathlib.Path) -> list[Finding]:
    """Reads the manifest, which `codet5p corpus build` writes last."""
    from codet5p_jax.corpus.manifest import read_manifest

    mend = f"codet5p corpus build --recipe=quickstart --out={folder}"
    if not folder.is_dir():
        return [problem("CORPUS_DIR", f"{folder} is no folder", mend=mend)]
    try:
        manifest = read_manifest(folder)
        fingerprint, languages = manifest["fingerprint"], len(manifest["languages"])
    except (OSError, ValueError, KeyError) as error:
        return [problem("CORPUS_DIR", f"holds no finished build: {error}", mend=mend)]
    return [ok("CORPUS_DIR", f"{folder}: {languages} languages, fingerprint {fingerprint[:12]}")]


def tokenizer_dir(folder: pathlib.Path) -> list[Finding]:
    """Loads the tokenizer."""
    from codet5p_jax.tokenizer import load_tokenizer

    mend = f"codet5p tokenizer train --corpus=<CORPUS_DIR> --out={folder}"
    if not folder.is_dir():
        return [problem("TOKENIZER_DIR", f"{folder} is no folder", mend=mend)]
    try:
        size = load_tokenizer(folder).vocab_size
    except (OSError, ValueError, KeyError) as error:
        what = f"holds no tokenizer that can be read: {last_line(str(error))}"
        return [problem("TOKENIZER_DIR", what, mend=mend)]
    return [ok("TOKENIZER_DIR", f"{folder}: {size:,} ids")]


def cache_dir(folder: pathlib.Path) -> list[Finding]:
    """Looks whether there is a cache."""
    if folder.is_dir() and any(folder.iterdir()):
        return [ok("CACHE_DIR", f"{folder}: {sum(1 for _ in folder.iterdir())} tasks")]
    mend = f"codet5p cache --corpus=<CORPUS_DIR> --tokenizer=<TOKENIZER_DIR> --out={folder}"
    return [problem("CACHE_DIR", f"{folder} is no folder, or an empty one", mend=mend)]


def initial_checkpoint(folder: pathlib.Path) -> list[Finding]:
    """Reads the newest checkpoint of the MODEL_DIR that a run starts from."""
    found = _newest_checkpoint("INITIAL_CHECKPOINT_PATH", folder)
    if found is not None:
        return [found]
    what = f"{folder} holds no checkpoint"
    mend = "--gin.INITIAL_CHECKPOINT_PATH=<MODEL_DIR of another run, or None>"
    return [problem("INITIAL_CHECKPOINT_PATH", what, mend=mend)]


def _gin_folder(folder: pathlib.Path) -> Finding:
    package = folder / "__init__.py"
    if package.exists():
        what = f"{package} makes the folder hide the library gin-config"
        return problem("gin", what, mend=f"rm {package}")
    try:
        files = [path.read_text(encoding="utf-8") for path in folder.rglob("*.gin")]
    except (OSError, UnicodeDecodeError) as error:
        return problem("gin", f"{folder}: {error}", mend=f"chmod -R u+rX {folder}")
    if not files:
        return problem("gin", f"{folder} holds no gin file", mend=f"git checkout -- {folder}")
    return ok("gin", f"{len(files)} files in {folder}")


def _correction(message: str) -> str | None:
    """Returns the last sentence of a message, where that says what to write instead."""
    for start in ("Did you mean ", "Give "):
        if start in message:
            return start + message.rpartition(start)[2].partition(" (")[0]
    return None


def _refusal(folder: pathlib.Path) -> str | None:
    """Returns why no file can be made in `folder`, or None when it can."""
    if not folder.is_dir():
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder}: {error.strerror}"


def _checkpoints(folder: pathlib.Path) -> list[Finding]:
    from codet5p_jax.training.checkpoints import PREFIX, UNREADABLE

    newest = _newest_checkpoint("MODEL_DIR", folder)
    findings = [newest or ok("MODEL_DIR", "holds no checkpoint yet: a run starts new there")]
    aside = sorted(path.name for path in folder.glob(f"{UNREADABLE}{PREFIX}_*"))
    if aside:
        what = f"holds {', '.join(aside)}, set aside by a run that could not read it"
        paths = " ".join(str(folder / name) for name in aside)
        findings.append(warning("MODEL_DIR", what, mend=f"rm -r {paths}"))
    return findings


def _newest_checkpoint(macro: str, folder: pathlib.Path) -> Finding | None:
    """Reads the newest checkpoint, a large one in part; None if there is none."""
    from codet5p_jax.training.checkpoints import PREFIX, load_metadata, load_params, newest_step

    newest = newest_step(folder)
    if newest is None:
        return None
    name = f"{PREFIX}_{newest}"
    path = folder / name
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        load_metadata(folder, newest)
        if size <= READ_WHOLE:
            load_params(folder, newest)
        else:
            _read_step(path)
    except Exception as error:  # whatever a damaged file raises
        what = f"{name} cannot be read: {type(error).__name__}: {last_line(str(error))}"
        return problem(macro, what, mend=f"mv {path} {folder / f'unreadable_{name}'}")
    part = "" if size <= READ_WHOLE else f" (its index; not all {size / GIB:.1f} GiB were read)"
    return ok(macro, f"{name} of {folder} can be read{part}")


def _read_step(path: pathlib.Path) -> None:
    """Reads one number of a checkpoint, for which Orbax reads the index of all arrays."""
    import numpy as np
    import orbax.checkpoint as ocp

    args = ocp.args.PyTreeRestore(
        item={"step": 0},
        restore_args={"step": ocp.RestoreArgs(restore_type=np.ndarray)},
        partial_restore=True,
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.restore(path.absolute() / "state", args=args)
