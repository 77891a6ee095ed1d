"""Flags of `codet5p train`, and what is wrong with them before anything large is imported."""

import argparse
import os

from codet5p_jax.cli import gin_config
from codet5p_jax.training.cluster import ARRIVAL_SECONDS, SILENCE_SECONDS, Cluster, find_cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags, and how several processes find each other."""
    gin_config.add_arguments(parser)
    group = parser.add_argument_group("several hosts", "the same command on each; docs/training.md")
    group.add_argument(
        "--multihost",
        action="store_true",
        help="let JAX find the other processes: on a TPU slice, under Slurm or MPI",
    )
    group.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="where process 0 listens; or JAX_COORDINATOR_ADDRESS",
    )
    group.add_argument(
        "--num_processes", type=int, metavar="N", help="how many there are; or JAX_NUM_PROCESSES"
    )
    group.add_argument(
        "--process_id", type=int, metavar="I", help="which one this is, from 0; or JAX_PROCESS_ID"
    )
    group.add_argument(
        "--silence_seconds",
        type=float,
        default=SILENCE_SECONDS,
        metavar="S",
        help="without a sign of life, after which a process counts as lost (%(default)s)",
    )
    group.add_argument(
        "--arrival_seconds",
        type=float,
        default=ARRIVAL_SECONDS,
        metavar="S",
        help="that the processes wait for each other at the start (%(default)s)",
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises for a recipe that there is not, and for processes that could not find each other."""
    gin_config.check_arguments(
        arguments, example="codet5p train --gin_file=recipes/quickstart_stage1.gin"
    )
    cluster_of(arguments)


def cluster_of(arguments: argparse.Namespace) -> Cluster | None:
    """Returns how this process finds the others; None where it is alone.

    Raises:
        MultihostError: See `find_cluster`.
    """
    return find_cluster(
        os.environ,
        multihost=arguments.multihost,
        coordinator_address=arguments.coordinator_address,
        num_processes=arguments.num_processes,
        process_id=arguments.process_id,
        silence_seconds=arguments.silence_seconds,
        arrival_seconds=arguments.arrival_seconds,
    )
