"""What all tasks share: the languages, and how they are mixed."""

import functools
from collections.abc import Mapping, Sequence

import seqio

from codet5p_jax.data.mixtures import temperature_rate

LANGUAGES = ("c", "cpp", "csharp", "go", "java", "javascript", "php", "python", "ruby")
SAMPLING_TEMPERATURE = 1 / 0.7  # CodeT5's exponent (arXiv:2109.00859, section 3.3)


def add_mixture(
    shares: Mapping[str, int | float], *, name: str, languages: Sequence[str], temperature: float
) -> None:
    """Registers the mixture `name` of the tasks <objective>_<language>.

    Args:
        shares: Objective -> factor on the rates of its tasks.
        name: What the mixture is called.
        languages: Languages, drawn alike by all objectives.
        temperature: See `temperature_rate`.
    """
    rates = {
        objective: functools.partial(temperature_rate, temperature=temperature, share=float(share))
        for objective, share in shares.items()
    }
    seqio.MixtureRegistry.add(
        name, [(f"{o}_{language}", rate) for o, rate in rates.items() for language in languages]
    )
