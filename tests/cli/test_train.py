"""Tests of codet5p_jax.cli.train: what does not fit together is said before anything is written."""

import dataclasses
import re

import pytest

from codet5p_jax.cli.train import _shared_config
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.tokenizer import train_tokenizer
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from tests.corpora import finished_corpus_dir, registry, tokenizer, tokenizer_dir  # noqa: F401


@pytest.fixture(scope="module")
def small_tokenizer():
    return train_tokenizer(["def mean(values):\n    return values\n" * 9], 270, min_frequency=2)


def _curriculum(objective, vocab_size):
    config = dataclasses.replace(model_config("codet5p_test"), vocab_size=vocab_size)
    stream = Stream(name="only", objective=objective(model=CodeT5p(config)), dataset=None)
    return Curriculum(phases=[Phase(name="all", steps=1, streams=[stream])])


def test_stage_1_trains_with_or_without_the_task_tokens(small_tokenizer):
    for size in (small_tokenizer.vocab_size, small_tokenizer.with_task_tokens().vocab_size):
        config = _shared_config(_curriculum(Seq2SeqObjective, size), small_tokenizer)
        assert config.vocab_size == size


def test_stage_2_needs_the_task_tokens(small_tokenizer):
    with pytest.raises(
        ValueError, match=rf"'only' asks with.*set it to {small_tokenizer.vocab_size + 3}"
    ):
        _shared_config(_curriculum(BimodalObjective, small_tokenizer.vocab_size), small_tokenizer)


def test_a_vocabulary_of_another_tokenizer_is_refused(small_tokenizer):
    with pytest.raises(
        ValueError, match=rf"vocab_size is 999.*has {small_tokenizer.vocab_size} ids"
    ):
        _shared_config(_curriculum(Seq2SeqObjective, 999), small_tokenizer)


BAD_BINDINGS = {
    "denoising targets too short": (
        "stage1_220m",
        'DENOISING_LENGTHS = {"inputs": 48, "targets": 5}',
        r"Stream 'span_denoising': .*its targets need \d+ tokens.*DatasetConfig\.task_feature_len",
    ),
    "no room for a prefix": (
        "stage1_220m",
        'SEQ2SEQ_CLM_LENGTHS = {"inputs": 1, "targets": 40}',
        r"Stream 'seq2seq_clm': .*needs room for \[CLM\] and a token.*\.task_feature_lengths",
    ),
    "no room for a token": (
        "stage1_220m",
        'DECODER_CLM_LENGTHS = {"inputs": 1, "targets": 2}',
        r"Stream 'decoder_clm': .*targets of 3 or more.*DatasetConfig\.task_feature_lengths",
    ),
    "no room for a text": (
        "stage2_220m",
        'BIMODAL_LENGTHS = {"text": 2, "code": 32}',
        r"Stream 'pairs': .*'text' 2 tokens; <s>, </s> and a token between.*task_feature_lengths",
    ),
    "packed examples longer than rows": (
        "stage1_220m_packed",
        'PACKED_LENGTHS = {"inputs": 96, "targets": 40}',
        r"Stream 'unimodal': DatasetConfig\.example_lengths .* 48 'targets', and a packed row",
    ),
    "texts of another length than the objective's": (
        "stage2_220m",
        "TEXT_LENGTH = 20\nBIMODAL_LENGTHS = {'text': 16, 'code': %CODE_LENGTH}",
        r"Stream 'pairs': BimodalObjective\.text_length is 20.* have 16 tokens.* Set TEXT_LENGTH",
    ),
    "a batch that the devices do not divide": (
        "stage1_220m",
        "CLM_BATCH_SIZE = 12",
        r"Stream 'seq2seq_clm': The batch has 12 rows.* 8 devices .* Set DatasetConfig\.batch",
    ),
    "a batch that the virtual shards do not divide": (
        "stage1_220m",
        "CLM_BATCH_SIZE = 9",
        r"batch_size of 'unimodal_seq2seq_clm' is 9, .*2 virtual shards",
    ),
    "a queue that the batch does not divide": (
        "stage2_220m",
        "QUEUE_SIZE = 20",
        r"Stream 'pairs': .*queue_size is 20, .* batch of 8 pairs\. Set QUEUE_SIZE to 16 or 24",
    ),
    "microbatches that leave a device without rows": (
        "stage1_220m",
        "MICROBATCHES = 2",
        r"Stream 'span_denoising': MICROBATCHES is 2, and a batch of 8 rows on 8 devices .* in 1 p",
    ),
    "a mixture of other features": (
        "stage2_220m",
        'pairs/batches.DatasetConfig.mixture_or_task_name = "unimodal_span_denoising"',
        r"Stream 'pairs': .*lengths of \['code', 'text'\]; 'unimodal_span_denoising' has the seq",
    ),
    "features converted for another objective": (
        "stage2_220m",
        "pairs/batches.DatasetConfig.feature_converter = @feature_converters.seq2seq_features",
        r"Stream 'pairs': DatasetConfig\.feature_converter is seq2seq_features, which reads",
    ),
    "an objective of other features": (
        "stage1_220m",
        "decoder_clm/curriculum.Stream.objective = @classification.ClassificationObjective()\n"
        "classification.ClassificationObjective.model = %MODEL\n"
        "classification.ClassificationObjective.num_classes = 2",
        r"Stream 'decoder_clm': ClassificationObjective reads input_tokens.* hold decoder_input_tok"
        r".* Set DatasetConfig\.feature_converter",
    ),
    "held-out data of an unknown mixture": (
        "stage1_220m",
        "decoder_clm/eval/batches.DatasetConfig.mixture_or_task_name = 'unimodal_decoder_cml'",
        r"Stream 'decoder_clm', held-out data: No mixture .* Did you mean 'unimodal_decoder_clm'",
    ),
    "a negative weight": (
        "stage1_220m",
        "span_denoising/curriculum.Stream.weight = -1.0",
        r"Stream 'span_denoising' has the weight -1.0; .* Set Stream\.weight",
    ),
    "rates of no objective": (
        "stage1_220m_packed",
        'OBJECTIVE_RATES = {"span_denoising": 1}',
        r"OBJECTIVE_RATES is .*; it must give unimodal_span_denoising, ",
    ),
}
IMPORTS = """
from __gin__ import dynamic_registration
from codet5p_jax.data import batches
from codet5p_jax.data import feature_converters
from codet5p_jax.objectives import classification
from codet5p_jax.training import curriculum
"""


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(("recipe", "binding", "message"), BAD_BINDINGS.values(), ids=BAD_BINDINGS)
def test_what_does_not_fit_together_is_said_before_anything_is_written(
    recipe,
    binding,
    message,
    codet5p,
    tmp_path,
    finished_corpus_dir,  # noqa: F811
    tokenizer,  # noqa: F811
    tokenizer_dir,  # noqa: F811
):
    """The toy twin of a recipe with one binding changed, on the eight devices of the tests."""
    (tmp_path / "bad.gin").write_text(IMPORTS + binding)
    vocabulary = f"VOCAB_SIZE={tokenizer.vocab_size}"
    if recipe.startswith("stage2"):
        vocabulary = f"TWO_STAGE_VOCAB_SIZE={tokenizer.vocab_size + 3}"
    code, _, error = codet5p(
        "train",
        f"--gin_file=recipes/{recipe}.gin",
        "--gin_file=runs/toy.gin",
        f"--gin_file={tmp_path / 'bad.gin'}",
        f"--gin.MODEL_DIR={tmp_path / 'model'}",
        f"--gin.CORPUS_DIR={finished_corpus_dir}",
        f"--gin.TOKENIZER_DIR={tokenizer_dir}",
        f"--gin.{vocabulary}",
        "--gin.INITIAL_CHECKPOINT_PATH=None",
    )
    assert code == 2
    assert re.search(message, error.replace("\n", " ")), error
    assert not (tmp_path / "model").exists()
