"""Checks of the machine: accelerators, memory, disk, and the variables that steer JAX."""

import functools
import glob
import importlib.util
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from codet5p_jax.cli.child_process import ChildProcess
from codet5p_jax.cli.findings import Finding, last_line, ok, problem, warning
from codet5p_jax.cli.tpu_variables import misread

GIB = 2**30
LOW_DISK = 10 * GIB  # three checkpoints of 220M, each 2.5 GiB, and a corpus
NO_DISK = GIB
LOW_MEMORY = 4 * GIB  # the quickstart needs 3
MEMORY_INFORMATION = pathlib.Path("/proc/meminfo")
CGROUP_LIMITS = (
    pathlib.Path("/sys/fs/cgroup/memory.max"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPU_DEVICES = ("/dev/nvidia[0-9]*",)
_ASK_FOR_DEVICES = """
import json, jax
print(json.dumps([
    {"platform": d.platform, "kind": d.device_kind,
     "memory": (d.memory_stats() or {}).get("bytes_limit")}
    for d in jax.local_devices()
]))
"""


def ask_for_devices(
    *, timeout: float = 15.0, environment: Mapping[str, str] | None = None
) -> Callable[[], Finding]:
    """Asks JAX for this machine's devices, in a process of its own: a TPU's may never answer.

    Args:
        timeout: Seconds after which the question counts as unanswered.
        environment: Of that process; None means this one's.

    Returns:
        What waits for the answer.
    """
    variables = dict(os.environ if environment is None else environment)
    if would_wait_for_tpu(variables):
        variables["JAX_PLATFORMS"] = "cpu"
    child = ChildProcess(_ASK_FOR_DEVICES, timeout=timeout, environment=variables)
    return functools.partial(_devices, child)


def _devices(child: ChildProcess) -> Finding:
    on_cpu = "export JAX_PLATFORMS=cpu"
    child.wait()
    if child.stopped:
        what = f"JAX has not found them in {child.timeout:.0f} s; does another process hold them?"
        return problem("devices", what, mend=on_cpu)
    if child.returncode:
        return problem("devices", f"JAX fails: {last_line(child.stderr)}", mend=on_cpu)
    return ok("devices", _summary(json.loads(child.stdout.strip().splitlines()[-1])))


def accelerator_in_use(
    environment: Mapping[str, str], *, tpus: bool | None = None, gpus: bool | None = None
) -> list[Finding]:
    """Finds a TPU or a GPU that JAX will not use.

    Args:
        environment: Variables that JAX will see.
        tpus: Whether the machine has TPUs; None looks for their device files.
        gpus: Whether the machine has NVIDIA GPUs; None looks for their device files.
    """
    findings = []
    platforms = environment.get("JAX_PLATFORMS", "")
    if _present(_TPU_DEVICES) if tpus is None else tpus:
        findings.append(_accelerator("TPU", ("tpu",), platforms, installed=_found("libtpu")))
    if _present(_GPU_DEVICES) if gpus is None else gpus:
        plugin = _found("jax_cuda13_plugin") or _found("jax_cuda12_plugin")
        findings.append(_accelerator("GPU", ("cuda", "gpu"), platforms, installed=plugin))
    return findings


def tpu_variables(environment: Mapping[str, str]) -> list[Finding]:
    """Lists the variables that libtpu reads, and finds those that will not work."""
    names = sorted(n for n in environment if n.startswith("TPU_") or n == "LIBTPU_INIT_ARGS")
    findings = []
    if names:
        values = ", ".join(f"{name}={environment[name]}" for name in names)
        findings.append(ok("TPU variables", values))
        findings += misread(environment)
    if "--xla_tpu" in environment.get("XLA_FLAGS", ""):
        what = "XLA_FLAGS holds --xla_tpu flags, which end every process that has no TPU"
        moved = 'export LIBTPU_INIT_ARGS="$XLA_FLAGS"; unset XLA_FLAGS'
        findings.append(problem("XLA_FLAGS", what, mend=moved))
    if would_wait_for_tpu(environment):
        what = "is installed, there is no TPU, and JAX_PLATFORMS is unset: JAX waits for one"
        findings.append(problem("libtpu", what, mend="export JAX_PLATFORMS=cpu"))
    return findings


def would_wait_for_tpu(environment: Mapping[str, str]) -> bool:
    """Returns whether JAX would look for a TPU that this machine does not have."""
    unset = not environment.get("JAX_PLATFORMS")
    return unset and _found("libtpu") and not _present(_TPU_DEVICES)


def disk(folder: pathlib.Path) -> Finding:
    """Reports the space left where `folder` is, or will be."""
    there = nearest_existing(folder)
    free = shutil.disk_usage(there).free
    return judged_disk(free, folder=there)


def judged_disk(free: int, *, folder: pathlib.Path) -> Finding:
    """Judges `free` bytes on the disk of `folder`."""
    what = f"{_gib(free)} free in {folder}"
    mend = f"du -xh --max-depth=2 {folder} | sort -h | tail"
    if free < NO_DISK:
        return problem("disk", f"{what}: a corpus or checkpoint will not fit", mend=mend)
    if free < LOW_DISK:
        return warning("disk", f"{what}; three checkpoints of 220M take 8 GiB", mend=mend)
    return ok("disk", what)


def memory(
    information: pathlib.Path = MEMORY_INFORMATION,
    limits: tuple[pathlib.Path, ...] = CGROUP_LIMITS,
) -> list[Finding]:
    """Reports main memory, that of the container where it has less.

    Args:
        information: The kernel's /proc/meminfo.
        limits: Files that may hold the container's limit in bytes.
    """
    if not information.exists():
        return []  # no Linux
    lines = (line.split() for line in information.read_text().splitlines())
    sizes = {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if len(words) == 3}
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    limit = min(filter(None, map(_limit, limits)), default=total)
    what = f"{_gib(min(available, limit))} available of {_gib(min(total, limit))}"
    if min(available, limit) < LOW_MEMORY:
        mend = "ps -eo rss,pid,args --sort=-rss | head"
        return [warning("memory", f"{what}; the quickstart needs 3 GiB", mend=mend)]
    return [ok("memory", f"{what}, {os.cpu_count()} cores")]


def nearest_existing(path: pathlib.Path) -> pathlib.Path:
    """Returns `path`, or the nearest folder above it that exists."""
    path = path.absolute()
    return path if path.exists() else nearest_existing(path.parent)


def _accelerator(kind: str, names: tuple[str, ...], platforms: str, *, installed: bool) -> Finding:
    """Judges an accelerator that is there; `names` are those of JAX_PLATFORMS and the extra."""
    if not installed:
        what = f"this machine has a {kind}, but JAX's support for it is not installed"
        return warning(kind, what, mend=f"EXTRAS=dev,{names[0]} bash launch/install.sh")
    if platforms and not set(names).intersection(platforms.split(",")):
        what = f"this machine has a {kind}, but JAX_PLATFORMS={platforms} leaves it out"
        return warning(kind, what, mend="unset JAX_PLATFORMS")
    return ok(kind, "is here, and JAX's support for it is installed")


def _summary(found: list[dict[str, Any]]) -> str:
    """Returns "4 x TPU v5 lite (tpu), 16.0 GiB each", kinds joined by commas."""
    counts: dict[tuple[str, str, int | None], int] = {}
    for device in found:
        kind = (device["kind"], device["platform"], device["memory"])
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(
        f"{count} x {kind} ({platform})" + (f", {_gib(memory)} each" if memory else "")
        for (kind, platform, memory), count in counts.items()
    )


def _limit(path: pathlib.Path) -> int | None:
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


def _present(patterns: tuple[str, ...]) -> bool:
    return any(glob.glob(pattern) for pattern in patterns)


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
