"""Several processes as one run: how they find each other, and what they agree on.

Programs on the devices talk through collectives. Whatever else the processes of a run must tell
each other goes through the key-value store of JAX's coordination service, which lives in process 0:
whether all have one configuration, where their data stand, when to stop, and that they are alive
(process_watch.py). A run in one process is the same run with nobody to ask::

    with join(None) as processes:  # or a Cluster
        processes.check_same(settings)
        processes.on_first(write_something)
"""

import abc
import contextlib
import hashlib
import json
import math
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codet5p_jax.training.cluster import Cluster, MultihostError, own_name
from codet5p_jax.training.preemption import Stop, StopRequest
from codet5p_jax.training.process_watch import ProcessWatch, last_words
from codet5p_jax.training.rendezvous import meet

_WAIT_MS = 24 * 3600 * 1000  # who waits for a lost process is ended by the watch, not by this
_SECONDS_TO_APPEAR = 10.0  # for a file of process 0, in another process
_SHOWN = 8  # differences of two configurations in a message
_NOT_CONNECTED = (
    "The processes of this run were not all connected within {seconds:.0f} s; the outputs of the "
    "others say more. Start all of them again; for slow hosts give a longer --arrival_seconds."
)


class Processes(abc.ABC):
    """The processes of a run, as one of them sees them. All call every method, in one order.

    Attributes:
        index: Which process this is, from 0.
        count: How many there are.
    """

    index: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.index == 0

    @abc.abstractmethod
    def gather(self, text: str) -> list[str]:
        """Returns the text of every process, in their order; waits until all have given one."""

    @abc.abstractmethod
    def shared_stop(self, request: StopRequest) -> Stop:
        """Returns when all processes stop, once a signal has come to any of them."""

    def on_first(self, action: Callable[[], None]) -> None:
        """Has process 0 do `action`; the others wait until it is done.

        Raises:
            MultihostError: In the others, when it raised in process 0.
        """
        error = None
        if self.is_first:
            try:
                action()
            except Exception as caught:
                error = caught
        message = self.gather(str(error) if error else "")[0]
        if error:
            raise error
        if message:
            raise MultihostError(f"Process 0 stopped: {message}")

    def check_shared(self, directory: str | pathlib.Path) -> None:
        """Checks that what process 0 writes into a directory is there for all.

        Raises:
            MultihostError: In all processes alike; names those that do not see it.
        """
        if self.count == 1:
            return
        mark = pathlib.Path(directory) / f".seen_by_all_{self.gather(uuid.uuid4().hex)[0]}"
        self.on_first(mark.touch)
        told = self.gather("" if _appears(mark) else f"process {self.index} ({own_name()})")
        self.on_first(mark.unlink)
        if blind := "; ".join(filter(None, told)):
            raise MultihostError(
                f"What process 0 writes into {directory} is not there for {blind}. "
                "MODEL_DIR must be one directory that all hosts see: on a network file system, or "
                "a bucket mounted at the same path everywhere."
            )

    def all_agree(self, yes: bool) -> bool:
        """Returns whether all processes say yes."""
        return all(text == "yes" for text in self.gather("yes" if yes else "no"))

    def least(self, number: int) -> int:
        """Returns the least of the processes' numbers."""
        return min(map(int, self.gather(str(number))))

    def union(self, positions: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Returns stream name -> name -> array, with what all processes have.

        Args:
            positions: Positions of the streams as far as this process reads them.
        """
        if self.count == 1:
            return {stream: dict(arrays) for stream, arrays in positions.items()}
        merged: dict[str, dict[str, Any]] = {}
        for text in self.gather(json.dumps(positions, default=_json_array)):
            for stream, arrays in json.loads(text).items():
                decoded = {name: np.array(a["values"], a["dtype"]) for name, a in arrays.items()}
                merged.setdefault(stream, {}).update(decoded)
        return merged

    def check_same(self, settings: Mapping[str, str]) -> None:
        """Checks that all processes have the same settings: name -> value.

        Raises:
            MultihostError: In all processes alike; names the settings and both values.
        """
        text = json.dumps(dict(settings), sort_keys=True)
        digests = self.gather(hashlib.sha256(text.encode()).hexdigest())
        others = [index for index, digest in enumerate(digests) if digest != digests[0]]
        if not others:
            return
        texts = self.gather(text if self.index in (0, others[0]) else "")
        first, other = (json.loads(texts[index]) for index in (0, others[0]))
        lines = [
            f"  {name}: {first.get(name, 'not set')} in process 0, {other.get(name, 'not set')} in "
            f"process {others[0]}"
            for name in sorted(first.keys() | other.keys())
            if first.get(name) != other.get(name)
        ]
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise MultihostError(
            f"Process {', '.join(map(str, others))} of {self.count} and process 0 have different "
            "configurations; nothing was started:\n"
            + "\n".join(lines[:_SHOWN] + more)
            + "\nStart all processes with the same code, gin files and flags."
        )


@final
class Alone(Processes):
    """A run in one process: there is nobody to ask."""

    index, count = 0, 1

    def gather(self, text: str) -> list[str]:
        """Returns the text."""
        return [text]

    def shared_stop(self, request: StopRequest) -> Stop:
        """Returns the request: it needs nobody's agreement."""
        return request


ALONE = Alone()


@final
class Several(Processes):
    """One of several processes, connected to the coordination service."""

    def __init__(self, client: Any, watch: ProcessWatch, *, index: int, count: int) -> None:
        """Keeps the client of the service, and the watch over the others."""
        self._client = client
        self._watch = watch
        self._round = 0
        self.index, self.count = index, count

    def gather(self, text: str) -> list[str]:
        """Returns the text of every process; one barrier and three messages a process."""
        self._round += 1
        return _gather(self._client, self._round, text, index=self.index)

    def shared_stop(self, request: StopRequest) -> Stop:
        """Returns the stop that the watch agrees on with the watches of the others."""
        return self._watch.share(request)


def _gather(client: Any, number: int, text: str, *, index: int) -> list[str]:
    folder = f"codet5p/round_{number}"
    client.key_value_set(f"{folder}/{index:06}", f"={text}")  # the service takes no empty text
    client.wait_at_barrier(folder, _WAIT_MS)
    texts = [value[1:] for _, value in sorted(client.key_value_dir_get(f"{folder}/"))]
    if number > 1:  # whoever is here has read the round before
        client.key_value_delete(f"codet5p/round_{number - 1}/{index:06}")
    return texts


@contextlib.contextmanager
def join(cluster: Cluster | None) -> Iterator[Processes]:
    """Yields the processes of the run, connected while the block lasts.

    To be entered before any device is used.

    When another process dies, or fails, this one ends with LOST_PROCESS_EXIT_CODE and a message
    that names the other (process_watch.py). An error in the block is told to the others.

    Raises:
        MultihostError: Without a cluster, when JAX sees several processes all the same.
    """
    if cluster is None:
        if jax.process_count() > 1:
            raise MultihostError(
                f"This is process {jax.process_index()} of {jax.process_count()} that share the "
                "devices; give --multihost to all of them, so that they train one model."
            )
        yield ALONE
        return
    client, address = _connect(cluster)
    index, count = jax.process_index(), jax.process_count()
    names = _gather(client, 0, own_name(), index=index)
    watch = ProcessWatch(
        client,
        index=index,
        names=names,
        address=address,
        silence_seconds=cluster.silence_seconds,
    )
    processes = Several(client, watch, index=index, count=count)
    with watch:
        yield processes
        processes.gather("done")  # the watch answers the others until the last of them is done


def _appears(path: pathlib.Path) -> bool:
    """Returns whether a file of another host is seen; network file systems may take a while."""
    end = time.monotonic() + _SECONDS_TO_APPEAR
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _connect(cluster: Cluster) -> tuple[Any, str]:
    """Returns the client of the coordination service, and the address of process 0."""
    from jax._src import distributed  # the store has no public name; Orbax takes it from here, too

    if None not in (cluster.coordinator_address, cluster.num_processes, cluster.process_id):
        meet(cluster)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own notice would swallow SIGTERM until our handler is set, and ask at every step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with last_words(lambda: _NOT_CONNECTED.format(seconds=cluster.arrival_seconds)):
            jax.distributed.initialize(
                coordinator_address=cluster.coordinator_address,
                num_processes=cluster.num_processes,
                process_id=cluster.process_id,
                initialization_timeout=math.ceil(cluster.arrival_seconds),
                # Ours finds a lost process first, and says more; this one aborts without a word.
                heartbeat_timeout_seconds=int(3 * cluster.silence_seconds + 30),
            )
    except ValueError as error:
        raise MultihostError(
            f"JAX finds no TPU, Slurm or MPI here that tells of the other processes ({error}) Give "
            "--coordinator_address=HOST:PORT, --num_processes=N and --process_id=I."
        ) from error
    return distributed.global_state.client, str(distributed.global_state.coordinator_address)


def local_rows(mesh: Mesh, batch_axes: PartitionSpec, batch_size: int) -> np.ndarray:
    """Returns which rows of a global batch lie on devices of this process, ascending.

    Two processes have the same rows where copies of one part of the batch lie on both.

    Args:
        mesh: Devices of all processes.
        batch_axes: Mesh axes that the rows lie along.
        batch_size: Rows of the global batch, which these axes divide.
    """
    sharding = NamedSharding(mesh, batch_axes)
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    rows = np.arange(batch_size)
    return np.unique(np.concatenate([rows[part] for part in parts if part is not None]))


def _json_array(array: Any) -> dict[str, Any]:
    values = np.asarray(array)
    return {"dtype": values.dtype.str, "values": values.tolist()}
