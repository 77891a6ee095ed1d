"""Source code that is on every machine: files of Python's standard library."""

import pathlib
import sysconfig

STDLIB = pathlib.Path(sysconfig.get_paths()["stdlib"])
TEXTS = [path.read_text("utf-8") for path in sorted(STDLIB.glob("[a-d]*.py"))[:30]]
HELD_OUT = [path.read_text("utf-8")[:20_000] for path in sorted(STDLIB.glob("[s-z]*.py"))[:20]]
