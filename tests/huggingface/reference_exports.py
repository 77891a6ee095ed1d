"""Exports of tiny random models, and what our own models answer: run with our package installed.

`python -m tests.huggingface.reference_exports FOLDER` writes FOLDER/<name>/export and
FOLDER/<name>/expected.npz for each of `NAMES`. `make test-hf` does so once, and hands the folder to
the tests in other environments as CODET5P_EXPORTS.
"""

import pathlib
import sys

TEXTS = ("def mean(values):\n    return sum(values)", "x", "class Ünique:\n\tpass  # 漢字 🙂")
NAMES = (
    *("t5", "t5_gated_untied", "t5_deep_decoder", "embedding", "bimodal"),
    *("codet5p", "codet5p_two_layers_cross", "codet5p_same_width"),
)
PROMPT = "def mean("
MAX_LENGTH = 10
CORPUS = ["def mean(values):\n    return sum(values) / len(values)\n" * 20]


def main(folder: pathlib.Path) -> None:
    """Writes all of them."""
    import jax
    import numpy as np
    from flax import linen as nn

    from codet5p_jax.interop.huggingface import export_model
    from codet5p_jax.models.codet5p import abstract_params

    for seed, (name, (config, tokenizer)) in enumerate({**_t5s(), **_codegens(folder)}.items()):
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


def _t5s():
    import dataclasses

    from codet5p_jax.models.config import T5Config
    from codet5p_jax.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(CORPUS, 280, min_frequency=2).with_task_tokens()
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
    configs = {name: two_stage for name in NAMES if not name.startswith("codet5p")}
    configs["t5_deep_decoder"] = dataclasses.replace(two_stage, num_decoder_layers=3)
    configs["t5_gated_untied"] = dataclasses.replace(
        two_stage, gated_mlp=True, activation=None, tie_embeddings=False
    )
    return {name: (config, tokenizer) for name, config in configs.items()}


def _codegens(folder):
    from codet5p_jax.models.codegen import CodeGenConfig
    from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
    from codet5p_jax.tokenizer import load_tokenizer
    from tests.codegen_folder import write_codegen_folder

    tokenizer = load_tokenizer(write_codegen_folder(folder / "codegen", CORPUS, vocab_size=300))
    ids = ("pad_id", "start_id", "eos_id", "clm_id", "match_id")

    def model(*, width=64, cross_attention_layers=1):
        alike = {"vocab_size": 512, "num_heads": 4}
        return EncoderDecoderConfig(
            encoder=CodeGenConfig(**alike, embed_dim=32, num_layers=2, rotary_dim=4, mlp_dim=128),
            decoder=CodeGenConfig(**alike, embed_dim=width, num_layers=3, rotary_dim=6, mlp_dim=40),
            cross_attention_layers=cross_attention_layers,
            **{name: getattr(tokenizer, name) for name in ids},
        )

    configs = {
        "codet5p": model(),
        "codet5p_two_layers_cross": model(cross_attention_layers=2),
        "codet5p_same_width": model(width=32),
    }
    return {name: (config, tokenizer) for name, config in configs.items()}


def _expected(params, config, tokenizer):
    import numpy as np

    from codet5p_jax.cli.verify import OurModel
    from codet5p_jax.decoding.generate import generate
    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.models.padding import padded

    model = OurModel(params, config)
    before, behind = tokenizer.prompt_bounds
    rows = [[*before, *tokenizer.encode(text), *behind] for text in TEXTS]
    inputs = padded(rows, pad_id=tokenizer.pad_id)
    expected = {
        "inputs": inputs,
        "lengths": np.array([len(row) for row in rows]),
        "around": np.array([len(before), len(behind)]),
        "pad_id": tokenizer.pad_id,
        "start_id": tokenizer.start_id,
    }
    if "generate" in model.does:
        targets = [[tokenizer.start_id, *row[:-1]] for row in rows]
        prompt = [*tokenizer.target_prefix, *tokenizer.encode(PROMPT)]
        prompted = generate(
            CodeT5p(config),
            params,
            inputs,
            max_length=len(prompt) + MAX_LENGTH,
            prompt=np.array([prompt] * len(rows), np.int32),
        )
        prompted = [
            tokens[:length]
            for tokens, length in zip(
                prompted.tokens.tolist(), prompted.lengths.tolist(), strict=True
            )
        ]
        expected |= {
            "targets": padded(targets, pad_id=tokenizer.pad_id),
            "logits": model.logits(inputs, padded(targets, pad_id=tokenizer.pad_id)),
            "generated": padded(model.greedy(inputs, max_length=MAX_LENGTH), pad_id=-1),
            "prompt": np.array(prompt),
            "prompted": padded(prompted, pad_id=-1),
        }
    if "embed" in model.does:
        expected["embeddings"] = model.embed(inputs)
    if "match" in model.does:
        expected["matching"] = model.match(inputs, np.roll(inputs, -1, axis=0))
    return expected


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
