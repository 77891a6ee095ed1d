"""Tasks of a mixture and how often each is drawn."""

import difflib
from collections.abc import Mapping, Sequence

import seqio

from codet5p_jax.data.blocks import BlockMap


def get_mixture_or_task(name: str) -> seqio.Task | seqio.Mixture:
    """Returns the mixture or task called `name` in SeqIO's registry.

    Raises:
        ValueError: If there is none; the message names the nearest ones.
    """
    known = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
    if name in known:
        return seqio.get_mixture_or_task(name)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = (
        f"Did you mean {' or '.join(map(repr, nearest))}?"
        if nearest
        else (
            f"Known: {', '.join(sorted(seqio.MixtureRegistry.names())) or 'none'}. Ours are there "
            "after tasks.register(corpus_dir, tokenizer_dir)."
        )
    )
    raise ValueError(f"No mixture or task is called {name!r}. {hint}")


def tasks_of(provider: seqio.Task | seqio.Mixture) -> Sequence[seqio.Task]:
    """Returns the tasks of a mixture; a task is a mixture of itself."""
    return [provider] if isinstance(provider, seqio.Task) else provider.tasks


def check_example_lengths(task: seqio.Task, lengths: Mapping[str, int]) -> None:
    """Asks the preprocessors that have a `check_lengths` whether their examples can be made.

    Raises:
        ValueError: If `lengths`, tokens per feature, are too short for them.
    """
    for step in task.preprocessors:
        check = (
            getattr(step.function, "check_lengths", None) if isinstance(step, BlockMap) else None
        )
        if check is not None:
            check(lengths)


def rated_tasks(provider: seqio.Task | seqio.Mixture, *, split: str) -> dict[seqio.Task, float]:
    """Returns the tasks that have `split` and are ever drawn, each with its rate.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(provider, seqio.Task):
        return {provider: 1.0}
    rates = {task: float(provider.get_rate(task)) for task in provider.tasks}
    rates = {task: rate for task, rate in rates.items() if rate > 0 and split in task.splits}
    if not rates:
        raise ValueError(
            f"No task of mixture {provider.name!r} has examples in the split {split!r}; its "
            f"splits are {', '.join(sorted(provider.splits))}."
        )
    return rates


def without_empty_tasks(
    rates: Mapping[seqio.Task, float], *, split: str
) -> dict[seqio.Task, float]:
    """Returns the tasks that have records in `split`, of which there is no end to be drawn.

    A language, or a small file of instructions, may have none held out.

    Raises:
        ValueError: If none has.
    """
    kept = {task: rate for task, rate in rates.items() if _num_records(task, split) != 0}
    if not kept:
        raise ValueError(
            f"The split {split!r} of {', '.join(task.name for task in rates)} holds no example. "
            "Read another split, or give more data; without held-out data, set eval_dataset = None "
            "of its Stream: of instructions by "
            "--gin.instruction/curriculum.Stream.eval_dataset=None and --gin.EVAL_SAMPLES=0."
        )
    return kept


def _num_records(task: seqio.Task, split: str) -> int | None:
    """Returns None where it is not known."""
    if task.cache_dir:
        return task.get_cached_stats(split)["examples"]
    return task.num_input_examples(split)


def temperature_rate(task: seqio.Task, *, temperature: float, share: float = 1.0) -> float:
    """Returns share * size ** (1 / temperature), where size is the number of training records.

    Temperature 1 samples languages in proportion to their sizes; a high one samples all alike.
    """
    if task.cache_dir:
        size = task.get_cached_stats("train")["examples"]
    else:
        size = task.num_input_examples("train") or 0
    return share * float(size) ** (1 / temperature) if size else 0.0
