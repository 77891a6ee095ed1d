"""Benchmark: tokens of packed rows per second and core, tokenised while training reads them.

``python -m benchmarks.tokenization`` reads the corpus of `benchmarks.data` without its cache. The
limit is absolute: 0.4 million tokens per second of processor time, all threads together.
"""

import contextlib
import datetime
import json
import os
import statistics
import sys
import time

from rich.console import Console

from benchmarks.data import WORK, prepare
from benchmarks.paired import RESULTS

MIXTURES = {
    "unimodal_span_denoising": {"inputs": 512, "targets": 128},
    "unimodal_decoder_clm": {"inputs": 1, "targets": 512},
}
LEAST_TOKENS_PER_SECOND = 400_000
TURNS, BATCHES = 5, 20


def tokens_per_second(mixture: str) -> list[float]:
    """Returns tokens that are no padding per second of processor time, in each turn."""
    from codet5p_jax.data.batches import DatasetConfig, batches

    config = DatasetConfig(
        mixture_or_task_name=mixture,
        task_feature_lengths=MIXTURES[mixture],
        batch_size=64,
        pack=True,
    )
    rates = []
    with contextlib.closing(batches(config)) as iterator:
        next(iterator)  # builds the graphs
        for _ in range(TURNS):
            start, tokens = time.process_time(), 0
            for _ in range(BATCHES):
                batch = next(iterator)
                tokens += sum(
                    int((batch[f"{side}_segment_ids"] > 0).sum()) for side in ("encoder", "decoder")
                )
            rates.append(tokens / (time.process_time() - start))
    return rates


def main() -> int:
    """Prints and keeps the figures; 1 when one is below the limit."""
    import tasks

    prepare(WORK)
    tasks.register(WORK / "corpus", WORK / "tokenizer")
    rates = {mixture: tokens_per_second(mixture) for mixture in MIXTURES}
    for mixture, turns in rates.items():
        Console().print(f"{mixture}: {statistics.median(turns):,.0f} tokens per CPU second")
    values = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
        "tokens_per_cpu_second": rates,
    }
    path = RESULTS / "tokenization.json"
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return int(any(statistics.median(turns) < LEAST_TOKENS_PER_SECOND for turns in rates.values()))


if __name__ == "__main__":
    sys.exit(main())
