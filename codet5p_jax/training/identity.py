"""What a MODEL_DIR was started as, so that a run of something else never writes into it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from codet5p_jax.training.json_files import write_json

RUN_FILE = "run.json"


class IdentityError(ValueError):
    """A MODEL_DIR that belongs to another model, tokenizer or corpus."""


def claim_model_dir(model_dir: str | pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Writes MODEL_DIR/run.json for a new run; compares it for a run that goes on.

    Args:
        model_dir: MODEL_DIR; made where it is missing.
        identity: What must not change between runs: nested JSON values of model, tokenizer,
            corpus.

    Raises:
        IdentityError: When MODEL_DIR was started as something else. Nothing is written then.
    """
    path = pathlib.Path(model_dir) / RUN_FILE
    wanted = json.loads(json.dumps(identity))
    if not path.exists():
        write_json(path, wanted)
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    differences = list(_differences(held, wanted))
    if differences:
        raise IdentityError(
            f"{model_dir} was started as another run; nothing was changed. What differs:\n"
            + "\n".join(f"  {line}" for line in differences)
            + "\nGive another MODEL_DIR, or the values it was started with. To start from its "
            "weights, give it as INITIAL_CHECKPOINT_PATH."
        )


def _differences(held: Any, wanted: Any, name: str = ""):
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in sorted(held.keys() | wanted.keys()):
            inner = f"{name}.{key}" if name else key
            yield from _differences(held.get(key), wanted.get(key), inner)
    elif held != wanted:
        yield f"{name}: it holds {held!r}, this run has {wanted!r}"
