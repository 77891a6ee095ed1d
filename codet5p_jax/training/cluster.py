"""Where the other processes of a run are, as flags and environment tell it."""

import dataclasses
import os
import socket
from collections.abc import Mapping

SILENCE_SECONDS = 30.0  # without a sign of life, after which a process counts as lost
ARRIVAL_SECONDS = 300.0  # for hosts that are still starting
_LEAST_SILENCE = 3.0  # signs of life come each second


class MultihostError(RuntimeError):
    """Processes that cannot be one run; the message says which and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """How this process finds the others; None leaves it to JAX, which asks TPU, Slurm or MPI.

    Attributes:
        coordinator_address: host:port that process 0 listens at.
        num_processes: How many there are.
        process_id: Which one this is, from 0.
        silence_seconds: After so long without a sign of life a process counts as lost.
        arrival_seconds: How long the processes wait for each other at the start.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    silence_seconds: float = SILENCE_SECONDS
    arrival_seconds: float = ARRIVAL_SECONDS

    def __post_init__(self) -> None:
        """Raises MultihostError for values that no run can have, naming the flag."""
        if self.coordinator_address is not None:
            host_and_port(self.coordinator_address)
        if self.num_processes is not None and self.num_processes < 1:
            raise MultihostError(
                f"num_processes is {self.num_processes}; give --num_processes=1 or more."
            )
        count, index = self.num_processes, self.process_id
        if index is not None and (index < 0 or (count is not None and index >= count)):
            among = "" if count is None else f" of {count} processes, which are 0 to {count - 1}"
            raise MultihostError(
                f"process_id is {index}{among}; give each process a --process_id of its "
                "own, from 0."
            )
        if self.silence_seconds < _LEAST_SILENCE:
            raise MultihostError(
                f"silence_seconds is {self.silence_seconds:g}, and a sign of life comes each "
                f"second; give --silence_seconds={_LEAST_SILENCE:g} or more."
            )
        if self.arrival_seconds <= 0:
            raise MultihostError(
                f"arrival_seconds is {self.arrival_seconds:g}; give --arrival_seconds as long as "
                "the slowest host takes to start."
            )


def host_and_port(address: str) -> tuple[str, int]:
    """Returns the host, an IPv6 address without its brackets, and the port of HOST:PORT.

    Raises:
        MultihostError: It is of another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise MultihostError(
            f"coordinator_address is {address!r}; give --coordinator_address=HOST:PORT with a port "
            "from 1 to 65535 that is free on the host of process 0, such as 10.0.0.1:1234."
        )
    return host.strip("[]"), int(port)


def own_name() -> str:
    """Returns what this process is called in messages to the others."""
    return f"{socket.gethostname()}, pid {os.getpid()}"


def find_cluster(
    environment: Mapping[str, str],
    *,
    multihost: bool = False,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    silence_seconds: float = SILENCE_SECONDS,
    arrival_seconds: float = ARRIVAL_SECONDS,
) -> Cluster | None:
    """Returns how to find the other processes, or None for a run in one process.

    Arguments win over JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. What is still
    missing JAX finds out by itself, where `multihost` or the environment says that there are
    several: a step of Slurm with many tasks, a TPU slice of many hosts on GKE.

    Raises:
        MultihostError: Some are given, and nothing tells the others; or a value cannot be.
    """
    address = coordinator_address or environment.get("JAX_COORDINATOR_ADDRESS")
    count = _number(environment, "JAX_NUM_PROCESSES") if num_processes is None else num_processes
    index = _number(environment, "JAX_PROCESS_ID") if process_id is None else process_id
    given = {"coordinator_address": address, "num_processes": count, "process_id": index}
    missing = [name for name, value in given.items() if value is None]
    detects = multihost or _has_many_tasks(environment)
    if missing and not detects:
        if len(missing) == len(given):
            return None
        raise MultihostError(
            f"{', '.join(name for name in given if name not in missing)} is given, but not "
            f"{', '.join(missing)}. Give {' '.join(f'--{name}=...' for name in missing)}, or "
            f"JAX_{missing[0].upper()} and the like in the environment; or --multihost, where TPU, "
            "Slurm or MPI can tell."
        )
    return Cluster(
        coordinator_address=address,
        num_processes=count,
        process_id=index,
        silence_seconds=silence_seconds,
        arrival_seconds=arrival_seconds,
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise MultihostError(f"{name} is {text!r} in the environment; it must be a number from 0.")
    return int(text)


def _has_many_tasks(environment: Mapping[str, str]) -> bool:
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    return tasks not in ("", "1") or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
