"""One host's rows of some global batches; tests start it by its module name, a process each host.

python -m tests.host_batches CORPUS_DIR TOKENIZER_DIR CACHE_DIR OUT HOST NUM_HOSTS COUNT [STATE ...]
"""

import contextlib
import itertools
import pathlib
import sys

import numpy as np

import tasks
from codet5p_jax.data.batches import DatasetConfig, batches

BATCH_SIZE = 16


def main(corpus, tokenizer, cache, out, host, num_hosts, count, *states):
    """Writes OUT/<host>.npz, feature of batch -> rows, and OUT/<host>_state.npz, the position."""
    tasks.register(corpus, tokenizer, cache_dir=cache)
    config = DatasetConfig(
        mixture_or_task_name="unimodal",
        task_feature_lengths={"inputs": 96, "targets": 64},
        batch_size=BATCH_SIZE,
        use_cached=True,
        pack=True,
    )
    rows = np.split(np.arange(BATCH_SIZE), int(num_hosts))[int(host)]
    with contextlib.closing(batches(config, rows=rows)) as iterator:
        if states:
            whole = {name: value for path in states for name, value in np.load(path).items()}
            own = iterator.get_state()
            iterator.set_state({name: whole[name] for name in own})
        read = {
            f"{number} {name}": values
            for number, batch in enumerate(itertools.islice(iterator, int(count)))
            for name, values in batch.items()
        }
        np.savez(pathlib.Path(out, f"{host}.npz"), **read)
        np.savez(pathlib.Path(out, f"{host}_state.npz"), **iterator.get_state())


if __name__ == "__main__":
    main(*sys.argv[1:])
