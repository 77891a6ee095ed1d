"""The package imports in one direction: a layer may import only the layers below it."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "codet5p_jax"

# Direct imports allowed between layers; `progress` and the prompt are leaves.
BASE = {"typing", "progress", "instruction_prompt"}
MODEL = BASE | {"tokenizer", "kernels", "models"}
MAY_IMPORT = {
    "typing": set(),
    "progress": set(),
    "instruction_prompt": set(),
    "tokenizer_files": set(),
    "tokenizer_base": {"tokenizer_files"},
    "language_model_tokenizers": {"tokenizer_base", "tokenizer_files"},
    "tokenizer": {"tokenizer_base", "language_model_tokenizers", "tokenizer_files"},
    "corpus": BASE | {"tokenizer"},
    "data": BASE | {"tokenizer"},
    "kernels": BASE,
    "models": BASE | {"kernels"},
    "objectives": BASE | {"kernels", "models"},
    "training": BASE | {"kernels", "models", "objectives"},
    "decoding": MODEL,
    "retrieval": MODEL,
    "interop": MODEL,
    "evaluation": MODEL | {"data", "decoding", "retrieval"},
    "checkpoint": MODEL | {"training"},
    "loaded_model": MODEL | {"checkpoint", "decoding", "interop", "retrieval"},
    "cli": None,  # everything, tasks too
}
FILES = sorted(PACKAGE.rglob("*.py"))
WITHOUT_TENSORFLOW = (
    "",
    "tokenizer",
    "corpus",
    "models",
    "objectives",
    "training",
    "decoding",
    "retrieval",
    "interop",
    "loaded_model",
)


def _layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    layer = _layer(path)
    if layer == "__init__" or MAY_IMPORT[layer] is None:
        return  # the public API may gather from everywhere
    ours = [parts for parts in _imports(path) if parts[0] in ("codet5p_jax", "tasks")]
    used = {parts[1] if parts[0] == "codet5p_jax" else "tasks" for parts in ours} - {layer}
    assert used <= MAY_IMPORT[layer], f"{layer} may not import {sorted(used - MAY_IMPORT[layer])}"


def test_layers_leave_tensorflow_out():
    """Every module of each is imported, from the lowest layer up, in a process of its own."""
    program = (
        "import importlib, pkgutil, sys\n"
        f"for layer in {WITHOUT_TENSORFLOW}:\n"
        "    root = importlib.import_module(f'codet5p_jax.{layer}'.rstrip('.'))\n"
        "    paths = root.__path__ if layer and hasattr(root, '__path__') else []\n"
        "    for module in pkgutil.iter_modules(paths, root.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "    assert 'tensorflow' not in sys.modules, f'{layer!r} imports tensorflow'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
