"""JSON files that are there whole or not at all, however a run ends."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any


def write_json(path: pathlib.Path, contents: Mapping[str, Any], **options: Any) -> None:
    """Writes `contents`, replacing the file in one step; makes its folder.

    Args:
        path: File whose name ends in .json.
        contents: JSON values.
        **options: Of json.dumps; it is indented by 2 unless another `indent` is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".json.new")
    text = json.dumps(contents, **{"indent": 2, **options})
    new.write_text(text + "\n", encoding="utf-8")
    os.replace(new, path)
