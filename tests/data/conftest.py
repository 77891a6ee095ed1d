from tests.corpora import (  # noqa: F401
    cache_dir,
    codegen,
    codegen_dir,
    corpus_dir,
    registered,
    registry,
    tokenizer,
    tokenizer_dir,
)
