"""Stations: commands of `codet5p` run one after the other, and not again once they are done."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STATIONS_FILE = "stations.json"
STOPPED = (130, 143)  # SIGINT, SIGTERM: the command has saved what it had


@dataclasses.dataclass(frozen=True)
class Station:
    """One command.

    Attributes:
        name: As printed; no two of a job are equal.
        words: Arguments of `codet5p`.
        result: What exists once it is done.
        needs: Names of the stations whose results it reads.
    """

    name: str
    words: Sequence[str]
    result: pathlib.Path
    needs: Sequence[str] = ()


def corpus_station(recipe: str, out: pathlib.Path) -> Station:
    """Returns the station that builds the corpus of `recipe` in OUT/corpus."""
    corpus = out / "corpus"
    return Station(
        "corpus: real source code in nine languages",
        ["corpus", "build", f"--recipe={recipe}", f"--out={corpus}"],
        corpus / "manifest.json",
    )


def tokenizer_station(vocab_size: int, out: pathlib.Path) -> Station:
    """Returns the station that trains a tokenizer on OUT/corpus, in OUT/tokenizer."""
    corpus, tokenizer = out / "corpus", out / "tokenizer"
    return Station(
        "tokenizer: byte-level BPE",
        [
            "tokenizer",
            "train",
            f"--corpus={corpus}",
            f"--out={tokenizer}",
            f"--vocab_size={vocab_size}",
        ],
        tokenizer / "tokenizer.json",
    )


def run_station(station: Station, out: pathlib.Path, *, stale: Sequence[str]) -> int:
    """Runs a station that is not done; returns the exit code of its command.

    Args:
        station: What to run.
        out: Folder of the job; its stations.json says what is done.
        stale: Names of the stations that no longer count as done when this one starts: those that
            read what it makes.
    """
    done = read_done(out)
    if is_done(station, done):
        print(f"    done before, in {done[station.name]['seconds']:.0f} s", flush=True)
        return 0
    print(f"    $ {command_line(station.words)}", flush=True)
    dropped = {station.name, *stale}
    done = {name: record for name, record in done.items() if name not in dropped}
    _write_done(out, done)
    started = time.monotonic()
    code = call(station.words)
    if code == 0:
        record = {"words": list(station.words), "seconds": time.monotonic() - started}
        _write_done(out, {**done, station.name: record})
    return code


def is_done(station: Station, done: Mapping[str, Any]) -> bool:
    """Returns whether this very command has ended well, and its result is still there."""
    record = done.get(station.name)
    return bool(record and record["words"] == list(station.words) and station.result.exists())


def call(words: Sequence[str]) -> int:
    """Runs `codet5p` in a process of its own, so that each station frees its memory."""
    return run_to_end([sys.executable, "-m", "codet5p_jax.cli.main", *words])


def run_to_end(command: Sequence[str]) -> int:
    """Returns the exit code of a command, 128 + the signal that ended it.

    SIGTERM is passed on, so that no command is left alone, writing where the next one will.
    """
    with subprocess.Popen(command) as process, _passed_on(signal.SIGTERM, process):
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:  # the command got the same signal, and saves before it ends
                continue
            return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _passed_on(number: signal.Signals, process: subprocess.Popen) -> Iterator[None]:
    before = signal.signal(number, lambda *_: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)


def command_line(words: Sequence[str]) -> str:
    """Returns the command as a user would type it."""
    return f"codet5p {shlex.join(words)}"


def read_done(out: pathlib.Path) -> dict[str, Any]:
    """Returns name -> {"words", "seconds"} of the stations that are done."""
    path = out / STATIONS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_done(out: pathlib.Path, done: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    new = out / f"{STATIONS_FILE}.new"
    new.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    os.replace(new, out / STATIONS_FILE)
