"""SeqIO's own tool caches our tasks, and both readers take what it wrote."""

import contextlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import seqio

import tasks
from codet5p_jax.data.batches import DatasetConfig, batches
from codet5p_jax.data.feature_converters import pair_features

pytestmark = [pytest.mark.usefixtures("registry"), pytest.mark.slow]
NAMES = {
    "unimodal_span_denoising_ruby": {"inputs": 64, "targets": 40},
    "bimodal_pairs_ruby": {"text": 32, "code": 64},
    "instruction_say": {"inputs": 128, "targets": 128},
}


def _register(corpus_dir, tokenizer_dir, instructions):
    tasks.register(
        corpus_dir,
        tokenizer_dir,
        languages=("ruby",),
        instruction_files={"say": str(instructions)},
    )


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    path = tmp_path_factory.mktemp("instructions") / "say.json"
    path.write_text(json.dumps([{"instruction": f"Say {i}.", "output": str(i)} for i in range(40)]))
    return path


@pytest.fixture(scope="module")
def seqio_cache(corpus_dir, tokenizer_dir, instructions, tmp_path_factory):
    """What the console script writes, in a process of its own."""
    folder = tmp_path_factory.mktemp("seqio_cache")
    (folder / "our_tasks.py").write_text(
        "import tasks\n"
        f"tasks.register({str(corpus_dir)!r}, {str(tokenizer_dir)!r}, languages=('ruby',),\n"
        f"    instruction_files={{'say': {str(instructions)!r}}})\n"
    )
    flags = [
        f"--tasks={','.join(f'^{name}$' for name in NAMES)}",
        f"--output_cache_dir={folder / 'cache'}",
        *("--module_import=our_tasks", "--min_shards=2"),
    ]
    root = pathlib.Path(__file__).parents[2]
    program = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(root)!r}]\n"
        "from seqio.scripts.cache_tasks_main import console_entry_point\n"
        "console_entry_point()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *flags], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return folder / "cache"


@pytest.fixture
def cached(registry, corpus_dir, tokenizer_dir, instructions, seqio_cache):
    seqio.set_global_cache_dirs([str(seqio_cache)])
    _register(corpus_dir, tokenizer_dir, instructions)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("cached")
def test_the_cache_holds_what_the_steps_before_it_make(name):
    task = seqio.TaskRegistry.get(name)
    made = task.preprocess_precache(task.source.get_dataset("train", shuffle=False))
    stored = task._get_cached_source("train").get_dataset("train", shuffle=False)
    expected, got = (sorted(map(_bytes, d.as_numpy_iterator())) for d in (made, stored))
    assert got == expected and len(got) > 9
    assert task.get_cached_stats("train")["examples"] == len(got)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("cached")
def test_seqio_and_our_reader_take_examples_from_it(name):
    lengths = NAMES[name]
    dataset = seqio.TaskRegistry.get(name).get_dataset(
        lengths, use_cached=True, shuffle=True, seed=1
    )
    for example in dataset.take(9).as_numpy_iterator():
        assert all(0 < example[feature].size <= size for feature, size in lengths.items())
    config = DatasetConfig(
        mixture_or_task_name=name,
        task_feature_lengths=lengths,
        batch_size=4,
        num_virtual_shards=2,
        use_cached=True,
        **({"feature_converter": pair_features} if "text" in lengths else {}),
    )
    with contextlib.closing(batches(config)) as iterator:
        batch = next(iterator)
    tokens = next(values for feature, values in batch.items() if feature.endswith("_tokens"))
    assert np.all(tokens[:, 0] != 0)


def _bytes(example):
    return b"|".join(np.asarray(example[name]).tobytes() for name in sorted(example))
