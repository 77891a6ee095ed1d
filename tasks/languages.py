"""What all tasks share: the languages, and how they are mixed."""

import functools
from collections.abc import Sequence

import seqio

from codet5p_jax.data.mixtures import temperature_rate

LANGUAGES = ("c", "cpp", "csharp", "go", "java", "javascript", "php", "python", "ruby")
SAMPLING_TEMPERATURE = 1 / 0.7  # CodeT5's exponent (arXiv:2109.00859, section 3.3)


def add_mixture(name: str, *, languages: Sequence[str], temperature: float) -> None:
    """Registers the mixture of the tasks `name`_<language>."""
    rate = functools.partial(temperature_rate, temperature=temperature)
    seqio.MixtureRegistry.add(name, [(f"{name}_{language}", rate) for language in languages])
