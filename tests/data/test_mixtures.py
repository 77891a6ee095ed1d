import pytest
import seqio

import tasks
from codet5p_jax.data.mixtures import get_mixture_or_task, rated_tasks, temperature_rate


def test_rates_are_sizes_flattened_by_temperature(registered):
    task = seqio.TaskRegistry.get("bimodal_pairs_python")
    size = task.get_cached_stats("train")["examples"]
    assert temperature_rate(task, temperature=1.0) == size
    assert temperature_rate(task, temperature=2.0) == pytest.approx(size**0.5)


def test_rates_without_a_cache_count_the_records(registered):
    seqio.set_global_cache_dirs([])
    task = seqio.TaskRegistry.get("unimodal_decoder_clm_python")
    task._cache_dir = None
    assert temperature_rate(task, temperature=1.0) == task.num_input_examples("train") > 0


def test_a_task_is_a_mixture_of_itself(registered):
    task = get_mixture_or_task("bimodal_pairs_ruby")
    assert rated_tasks(task, split="train") == {task: 1.0}


def test_languages_without_records_are_never_drawn(registry, corpus_dir, tokenizer_dir):
    tasks.register(corpus_dir, tokenizer_dir, languages=("go", "ruby"))
    mixture = get_mixture_or_task("unimodal_decoder_clm")
    assert [task.name for task in rated_tasks(mixture, split="train")] == [
        "unimodal_decoder_clm_ruby"
    ]
