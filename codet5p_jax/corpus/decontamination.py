"""Decontamination: repositories that occur in evaluation sets are left out by name.

Source: CodeT5+ (arXiv:2305.07922), section 4.1.
"""

import os
import pathlib
from collections.abc import Iterable, Sequence

from codet5p_jax.corpus.sources import Source


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Returns the names in a text file: one a line, `#` starts a comment.

    Raises:
        FileNotFoundError: There is no such file.
    """
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def decontaminate(
    sources: Sequence[Source], names: Iterable[str]
) -> tuple[list[Source], list[Source]]:
    """Returns the sources whose name is not in `names`, and those whose name is; case is ignored.

    "owner/name" meets a source called "owner/name" or "name".
    """
    banned = {part.lower() for name in names for part in (name, name.rpartition("/")[2])}
    kept = [source for source in sources if source.name.lower() not in banned]
    return kept, [source for source in sources if source.name.lower() in banned]
