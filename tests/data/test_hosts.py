"""Global batches of several processes, each of which reads its own rows: no other's data."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.launched import ROOT


def _read(folder, count, *, hosts, places, states=()):
    """The global batches that so many processes read, and the files of their positions."""
    folder.mkdir()
    words = [sys.executable, "-m", "tests.host_batches", *places, folder]
    processes = [
        subprocess.Popen([*map(str, words), *map(str, (host, hosts, count, *states))], cwd=ROOT)
        for host in range(hosts)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * hosts
    parts = [np.load(folder / f"{host}.npz") for host in range(hosts)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return whole, [folder / f"{host}_state.npz" for host in range(hosts)]


@pytest.mark.slow
def test_one_two_and_four_processes_read_the_same_batches_and_go_on_for_each_other(
    corpus_dir, tokenizer_dir, cache_dir, tmp_path
):
    """Packed, and a mixture; positions are handed from four processes to two and to one."""
    places = [pathlib.Path(place) for place in (corpus_dir, tokenizer_dir, cache_dir)]
    whole, _ = _read(tmp_path / "whole", 12, hosts=1, places=places)
    read, states = {}, []
    for part, hosts in enumerate((4, 2, 1)):
        folder = tmp_path / f"part{part}"
        batches, states = _read(folder, 4, hosts=hosts, places=places, states=states)
        assert len(states) == hosts
        for name, values in batches.items():
            number, feature = name.split(" ", 1)
            read[f"{int(number) + 4 * part} {feature}"] = values
    assert read.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(read[name], values)
