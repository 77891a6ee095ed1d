"""Folders with our modelling files and configs of tiny models."""

import json
import pathlib
import shutil

MODEL_FILES = pathlib.Path(__file__).parents[2] / "codet5p_jax" / "interop" / "model_files"
SIDE = {
    "model_type": "codet5p_module",
    "vocab_size": 96,
    "n_positions": 64,
    "n_ctx": 64,
    "bos_token_id": 90,
    "eos_token_id": 90,
}
CODET5P = {
    "model_type": "codet5p",
    "encoder": {**SIDE, "n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4},
    "decoder": {
        **SIDE,
        "n_embd": 48,
        "n_head": 8,
        "n_layer": 3,
        "rotary_dim": 2,
        "is_decoder": True,
        "add_cross_attention": True,
    },
    "decoder_start_token_id": 90,
    "bos_token_id": 90,
    "eos_token_id": 90,
    "pad_token_id": 91,
}
T5 = {
    "vocab_size": 96,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 20,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "feed_forward_proj": "relu",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
CLASSES = {
    "codet5p": ("CodeT5pConfig", "CodeT5pEncoderDecoderModel"),
    "codet5p_embedding": ("CodeT5pEmbeddingConfig", "CodeT5pEmbeddingModel"),
    "codet5p_bimodal": ("CodeT5pBimodalConfig", "CodeT5pBimodalModel"),
}


def write_folder(folder, contents):
    """Writes config.json and the modelling files of its `model_type`, without weights."""
    model_type = contents["model_type"]
    config_class, model_class = CLASSES[model_type]
    folder.mkdir()
    for kind in ("configuration", "modeling"):
        shutil.copy(MODEL_FILES / f"{kind}_{model_type}.py", folder)
    auto_map = {
        "AutoConfig": f"configuration_{model_type}.{config_class}",
        "AutoModel": f"modeling_{model_type}.{model_class}",
        "AutoModelForSeq2SeqLM": f"modeling_{model_type}.{model_class}",
    }
    contents = {"architectures": [model_class], "auto_map": auto_map, **contents}
    (folder / "config.json").write_text(json.dumps(contents))
    return folder


def write_weights(folder, state_dict):
    """Writes model.safetensors."""
    from safetensors.torch import save_file

    tensors = {name: tensor.clone().contiguous() for name, tensor in state_dict.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def randomize(model, *, seed=0):
    """Draws every weight, norms and biases too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(center + 0.3 * torch.randn(parameter.shape, generator=generator))
