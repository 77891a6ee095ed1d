"""A Python program in a process of its own, which may crash or hang without harm."""

import subprocess
import sys
import time
from collections.abc import Mapping
from typing import final


@final
class ChildProcess:
    """A program that runs while its parent does something else.

    Attributes:
        timeout: Seconds it may take, from its start.
        stopped: Whether it took longer and was killed; known after `wait`.
        returncode: Its exit code; negative: the signal that ended it.
        stdout: What it printed.
        stderr: What it printed as errors.
    """

    def __init__(
        self, program: str, *, timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts the program.

        Args:
            program: Python source.
            timeout: Seconds it may take.
            environment: Its variables; None: those of this process.
        """
        self.timeout = timeout
        self.stopped = False
        self._deadline = time.monotonic() + timeout
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def wait(self) -> None:
        """Returns when the program has ended, or has been killed at its timeout."""
        try:
            left = max(self._deadline - time.monotonic(), 0.0)
            self.stdout, self.stderr = self._process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.stopped = True
            self.stdout, self.stderr = self._process.communicate()
        self.returncode = self._process.returncode
