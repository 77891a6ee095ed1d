"""Runs an export, or an import, that is killed at one step after the other; a program.

`python -m tests.interop.killing export FOLDER STRIDE` prints how often it was killed. Each run is a
fork, so that the libraries are imported once; a step is whatever creates, renames or removes a file
in FOLDER, and each tensor that is written.
"""

import os
import pathlib
import signal
import sys
from collections.abc import Callable
from functools import partial

STEPS = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "tempfile.mkdtemp"}


class Steps:
    """Counts the steps of this process and kills it before the one called `last`."""

    def __init__(self, folder: pathlib.Path, last: int | None):
        self.folder, self.last, self.count = str(folder), last, 0
        sys.addaudithook(self._audit)

    def step(self) -> None:
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def _audit(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        here = (writes or event in STEPS) and str(arguments[0]).startswith(self.folder)
        if here or event == "ctypes.dlsym":  # on the way to an exchange of two names
            self.step()


def forked(action: Callable[[], None], folder: pathlib.Path, last: int | None) -> bool:
    """Runs `action` in a fork; returns whether it ended by itself."""
    child = os.fork()
    if child == 0:
        try:
            steps = Steps(folder, last)
            _count_tensors(steps)
            action()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, f"the action failed at step {last}"
    return True


def _count_tensors(steps: Steps) -> None:
    from codet5p_jax.interop import tensors

    written = tensors._bytes

    def counted(tensor):
        steps.step()
        return written(tensor)

    tensors._bytes = counted


def kill_at_every_step(
    action: Callable[[], None], check: Callable[[], None], folder: pathlib.Path, *, stride: int
) -> int:
    """Kills `action` at step 0, `stride`, ... until it comes to its end; checks after each."""
    kills = 0
    while not forked(action, folder, kills * stride):
        kills += 1
        check()
    check()
    return kills


def export(folder: pathlib.Path, *, earlier: bool, stride: int) -> int:
    """Exports, over an earlier export or none."""
    import numpy as np

    from codet5p_jax.interop.huggingface import export_model, import_model
    from codet5p_jax.tokenizer import load_tokenizer

    first, config = import_model(folder.parent / "first")
    second, _ = import_model(folder.parent / "second")
    tokenizer = load_tokenizer(folder.parent / "first")
    out = folder / "out"

    def write(params):
        export_model(
            params,
            config,
            tokenizer=tokenizer,
            out_dir=out,
            format="bimodal",
            max_shard_bytes=3_000,
        )

    def scale(params):
        return np.asarray(params["encoder"]["final_norm"]["scale"]).tolist()

    def check():
        if not earlier and not out.exists():
            return
        found = scale(import_model(out)[0])  # reads all of it: half of an export is an error
        assert found in ([scale(first)] if earlier else []) + [scale(second)]
        assert (out / "README.md").read_text().endswith("\n")
        assert load_tokenizer(out).fingerprint == tokenizer.fingerprint

    if earlier:
        write(first)
    kills = kill_at_every_step(lambda: write(second), check, folder, stride=stride)
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert scale(import_model(out)[0]) == scale(second)
    return kills


def import_(folder: pathlib.Path, *, stride: int) -> int:
    """Imports what lies in "first"."""
    from codet5p_jax.checkpoint import load_checkpoint
    from codet5p_jax.cli import main

    out = folder / "imported"

    def run():
        words = ["import", f"--from={folder.parent / 'first'}", f"--out={out}"]
        try:
            main.main(words)
        except SystemExit as stopped:
            assert stopped.code == 0, stopped.code

    def check():
        if out.exists():
            child = os.fork()  # Orbax starts threads, and a process with threads is not forked
            if child == 0:
                os._exit(load_checkpoint(out).step)
            assert os.waitpid(child, 0)[1] == 0

    kills = kill_at_every_step(run, check, folder, stride=stride)
    assert [path.name for path in folder.iterdir()] == ["imported"]
    return kills


ACTIONS = {
    "export": partial(export, earlier=False),
    "export_again": partial(export, earlier=True),
    "import": import_,
}

if __name__ == "__main__":
    what, place, stride = sys.argv[1:]
    print(ACTIONS[what](pathlib.Path(place), stride=int(stride)))
