"""The files of a tokenizer, as Hugging Face's libraries write them, and what they hold."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple


class TokenizerFiles(NamedTuple):
    """What the files of a tokenizer hold, whichever they are.

    Attributes:
        vocab: Entry of the BPE -> id.
        merges: Ranked.
        added: Text of an added token -> id.
        pre_tokenizer: How tokenizer.json says that text is cut before the BPE; None: it says
            nothing, or there is no such file.
    """

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[str, int]
    pre_tokenizer: dict[str, Any] | None = None


def read_files(directory: str | pathlib.Path) -> TokenizerFiles:
    """Reads tokenizer.json, or vocab.json, merges.txt and, where it is, added_tokens.json.

    Raises:
        FileNotFoundError: If the directory holds neither.
        ValueError: If a file is no JSON, or holds no BPE.
    """
    directory = pathlib.Path(directory)
    if (directory / "tokenizer.json").exists():
        return _read_tokenizer_json(directory / "tokenizer.json")
    if (directory / "vocab.json").exists() and (directory / "merges.txt").exists():
        added = directory / "added_tokens.json"
        return TokenizerFiles(
            vocab=_read_json(directory / "vocab.json"),
            merges=list(_parse_merges(directory / "merges.txt")),
            added=_read_json(added) if added.exists() else {},
        )
    raise FileNotFoundError(
        f"No tokenizer in {str(directory)!r}: expected tokenizer.json, or vocab.json and "
        "merges.txt. Train one with `codet5p tokenizer train --corpus=DIR --out=DIR`."
    )


def _read_tokenizer_json(path: pathlib.Path) -> TokenizerFiles:
    contents = _read_json(path)
    model = contents.get("model")
    if not isinstance(model, dict):
        raise ValueError(f"{str(path)!r} has no object 'model'; expected a BPE tokenizer.")
    if model.get("type") != "BPE":
        raise ValueError(f"{str(path)!r} holds a {model.get('type')} tokenizer; expected BPE.")
    missing = [key for key in ("vocab", "merges") if key not in model]
    if missing:
        raise ValueError(f"The BPE in {str(path)!r} lacks {' and '.join(missing)}.")
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    merges = [(left, right) for left, right in pairs]
    added = {token["content"]: token["id"] for token in contents.get("added_tokens", [])}
    return TokenizerFiles(
        vocab=model["vocab"],
        merges=merges,
        added=added,
        pre_tokenizer=contents.get("pre_tokenizer"),
    )


def _parse_merges(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ValueError(f"{path}:{number}: a merge is two entries, got {line!r}.")
        yield pair[0], pair[1]


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no JSON file: {error}.") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{str(path)!r} holds a {type(contents).__name__}; expected an object.")
    return contents
