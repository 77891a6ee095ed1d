"""Exports of tiny random models, and what our own models answer: run with our package installed.

`python -m tests.huggingface.reference_exports FOLDER` writes FOLDER/<name>/export and
FOLDER/<name>/expected.npz for each of `NAMES`. `make test-hf` does so once, and hands the folder to
the tests in other environments as CODET5P_EXPORTS.
"""

import pathlib
import sys

TEXTS = ("def mean(values):\n    return sum(values)", "x", "class Ünique:\n\tpass  # 漢字 🙂")
NAMES = ("t5", "t5_gated_untied", "t5_deep_decoder", "embedding", "bimodal")
MAX_LENGTH = 10


def main(folder: pathlib.Path) -> None:
    """Writes all of them."""
    import dataclasses

    import jax
    import numpy as np
    from flax import linen as nn

    from codet5p_jax.interop.huggingface import export_model
    from codet5p_jax.models.codet5p import abstract_params
    from codet5p_jax.models.config import T5Config
    from codet5p_jax.tokenizer import train_tokenizer

    corpus = ["def mean(values):\n    return sum(values) / len(values)\n" * 20]
    tokenizer = train_tokenizer(corpus, 280, min_frequency=2).with_task_tokens()
    two_stage = T5Config(
        vocab_size=tokenizer.vocab_size,
        embed_dim=24,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=3,
        head_dim=8,
        mlp_dim=40,
        relative_position_buckets=8,
        relative_position_max_distance=12,
        dropout_rate=0.0,
        projection_dim=12,
        matching_head=True,
    )
    configs = dict.fromkeys(NAMES, two_stage)
    configs["t5_deep_decoder"] = dataclasses.replace(two_stage, num_decoder_layers=3)
    configs["t5_gated_untied"] = dataclasses.replace(
        two_stage, gated_mlp=True, activation=None, tie_embeddings=False
    )
    for seed, name in enumerate(NAMES):
        config = configs[name]
        rng = np.random.default_rng(seed)
        params = jax.tree.map(
            lambda leaf, rng=rng: rng.normal(0, 0.3, leaf.shape).astype("float32"),
            nn.unbox(abstract_params(config)),
        )
        export_model(
            params,
            config,
            tokenizer=tokenizer,
            out_dir=folder / name / "export",
            format=name.split("_")[0],
        )
        np.savez(folder / name / "expected.npz", **_expected(params, config, tokenizer))


def _expected(params, config, tokenizer):
    import numpy as np

    from codet5p_jax.cli.verify import OurModel
    from codet5p_jax.interop.verification import padded

    model = OurModel(params, config)
    rows = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in TEXTS]
    targets = [[tokenizer.start_id, *row[:-1]] for row in rows]
    inputs = padded(rows, pad_id=tokenizer.pad_id)
    generated = model.greedy(inputs, max_length=MAX_LENGTH)
    return {
        "inputs": inputs,
        "targets": padded(targets, pad_id=tokenizer.pad_id),
        "lengths": np.array([len(row) for row in rows]),
        "pad_id": tokenizer.pad_id,
        "eos_id": tokenizer.eos_id,
        "logits": model.logits(inputs, padded(targets, pad_id=tokenizer.pad_id)),
        "generated": padded(generated, pad_id=-1),
        "embeddings": model.embed(inputs),
        "matching": model.match(inputs, np.roll(inputs, -1, axis=0)),
    }


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
