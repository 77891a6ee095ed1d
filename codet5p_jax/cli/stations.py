"""Stations: commands of `codet5p` run one after the other, and not again once they are done."""

import dataclasses
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from codet5p_jax.training.json_files import write_json

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
    """Returns the exit code of a command, or 128 + the signal that ended it or came meanwhile.

    SIGTERM is passed on, so that no command is left alone, writing where the next one will. SIGINT
    is not: a terminal sends it to the command, too, which saves before it ends.
    """
    came: list[int] = []
    process: subprocess.Popen | None = None

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if process is not None and number == signal.SIGTERM:
            process.send_signal(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command)
        if signal.SIGTERM in came:  # before there was a process to pass it on to
            process.send_signal(signal.SIGTERM)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = code if code >= 0 else 128 - code
    return 128 + came[-1] if came and code == 0 else code


def command_line(words: Sequence[str]) -> str:
    """Returns the command as a user would type it."""
    return f"codet5p {shlex.join(words)}"


def read_done(out: pathlib.Path) -> dict[str, Any]:
    """Returns name -> {"words", "seconds"} of the stations that are done."""
    path = out / STATIONS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_done(out: pathlib.Path, done: Mapping[str, Any]) -> None:
    write_json(out / STATIONS_FILE, done)
