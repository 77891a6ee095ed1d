"""What the variables that describe a slice to libtpu look like, and those that do not.

On machines of Google Cloud libtpu asks the machine's metadata for what is unset.
"""

import dataclasses
import re
from collections.abc import Mapping

from codet5p_jax.cli.findings import Finding, problem, warning

GENERATIONS = ("v2", "v3", "v4", "v5litepod", "v5e", "v5p", "v6e", "tpu7x")


@dataclasses.dataclass(frozen=True)
class _Form:
    """What the value of a variable looks like.

    Attributes:
        pattern: Of the whole value.
        expected: The same in words.
    """

    pattern: str
    expected: str


_BOUNDS = _Form(r"[1-9]\d*(,[1-9]\d*){2}", "three numbers such as 2,2,1")
_CHIPS = _Form(r"\d+(,\d+)*", "chips such as 0,1")
_FORMS = {
    "TPU_CHIPS_PER_HOST_BOUNDS": _BOUNDS,
    "TPU_HOST_BOUNDS": _BOUNDS,
    "TPU_CHIPS_PER_PROCESS_BOUNDS": _BOUNDS,
    "TPU_PROCESS_BOUNDS": _BOUNDS,
    "TPU_VISIBLE_CHIPS": _CHIPS,
    "TPU_VISIBLE_DEVICES": _CHIPS,
    "TPU_PROCESS_PORT": _Form(r"\d+", "a port such as 8476"),
    "TPU_PROCESS_ADDRESSES": _Form(r"[^,]+:\d+(,[^,]+:\d+)*", "HOST:PORT,HOST:PORT"),
    "TPU_TOPOLOGY": _Form(r"[1-9]\d*(x[1-9]\d*){1,2}", "a shape such as 4x4 or 2x2x2"),
    "TPU_WORKER_ID": _Form(r"\d+", "a number from 0"),
}


def misread(environment: Mapping[str, str]) -> list[Finding]:
    """Finds the variables whose values libtpu cannot read, or that name what is not known.

    Args:
        environment: Variables that libtpu will see; an empty one counts as unset.
    """
    return [*_malformed(environment), *_unknown_type(environment), *_worker(environment)]


def _malformed(environment: Mapping[str, str]) -> list[Finding]:
    return [
        problem(name, f"is {value!r}; give {form.expected}", mend=f"unset {name}")
        for name, form in _FORMS.items()
        if (value := environment.get(name)) and not re.fullmatch(form.pattern, value)
    ]


def _unknown_type(environment: Mapping[str, str]) -> list[Finding]:
    """Returns a warning, no problem: there may be a generation that is newer than this list."""
    name = "TPU_ACCELERATOR_TYPE"
    value = environment.get(name)
    if not value or re.fullmatch(rf"({'|'.join(GENERATIONS)})-[1-9]\d*", value):
        return []
    what = f"is {value!r}; known are {', '.join(GENERATIONS)} with a number, such as v5litepod-16"
    return [warning(name, what, mend=f"unset {name}")]


def _worker(environment: Mapping[str, str]) -> list[Finding]:
    """Returns a problem where TPU_WORKER_ID is a number that no host of the slice has."""
    worker, hosts = (environment.get(f"TPU_WORKER_{name}", "") for name in ("ID", "HOSTNAMES"))
    count = len(hosts.split(","))
    if not hosts or not worker.isdecimal() or int(worker) < count:
        return []
    what = f"is {worker!r}, and TPU_WORKER_HOSTNAMES names {count}: give 0 to {count - 1}"
    return [problem("TPU_WORKER_ID", what, mend="unset TPU_WORKER_ID TPU_WORKER_HOSTNAMES")]
