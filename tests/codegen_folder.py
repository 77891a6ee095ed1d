"""A folder of the shape of Salesforce/codegen-350M-mono's tokenizer, small."""

import json

import tokenizers

END = "<|endoftext|>"
RUNS = (*(" " * n for n in range(31, 1, -1)), *("\t" * n for n in range(9, 1, -1)))


def write_codegen_folder(directory, texts, *, vocab_size=600):
    """Trains GPT-2's byte-level BPE on `texts`, and writes the files that CodeGen comes with."""
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=vocab_size - 1, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    vocab = {**model["vocab"], END: len(model["vocab"])}
    merges = [" ".join(pair) for pair in model["merges"]]
    added = {run: len(vocab) + i for i, run in enumerate(RUNS)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    contents = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(END, vocab[END], special=True),
            *(_added_token(run, index, special=False) for run, index in added.items()),
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": {**level, "add_prefix_space": True, "trim_offsets": False},
        "decoder": {**level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": merges,
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, values in {
        "tokenizer.json": contents,
        "vocab.json": vocab,
        "added_tokens.json": added,
        "special_tokens_map.json": dict.fromkeys(("bos_token", "eos_token", "unk_token"), END),
        "tokenizer_config.json": {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False},
    }.items():
        (directory / name).write_text(json.dumps(values), encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *merges, ""])
    (directory / "merges.txt").write_text(lines, encoding="utf-8")
    return directory


def _added_token(content, index, *, special):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    return {"id": index, "content": content, "special": special, **flags}
