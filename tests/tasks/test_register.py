import numpy as np
import pytest
import seqio

import tasks
from codet5p_jax.data.texts import corpus_texts
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import load_tokenizer, train_tokenizer
from tests.codegen_folder import write_codegen_folder

pytestmark = pytest.mark.usefixtures("registry")
LANGUAGES = ("python", "ruby")


def test_every_objective_has_a_task_per_language_and_a_mixture(corpus_dir, tokenizer_dir):
    tasks.register(corpus_dir, tokenizer_dir)
    assert (
        set(seqio.MixtureRegistry.names())
        == set(tasks.MIXTURES)
        == {
            *("unimodal_span_denoising", "unimodal_seq2seq_clm", "unimodal_decoder_clm"),
            *("unimodal", "bimodal_pairs", "text_to_code", "code_to_text"),
        }
    )
    for mixture in tasks.MIXTURES:
        count = 27 if mixture == "unimodal" else 9
        assert len(seqio.MixtureRegistry.get(mixture).tasks) == count


def test_the_mixture_of_all_objectives_draws_them_as_the_papers_batches_do(
    corpus_dir, tokenizer_dir
):
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    denoising, seq2seq, decoder = _shares("unimodal")
    assert denoising == pytest.approx(4 * seq2seq) == pytest.approx(4 * decoder)


def _shares(mixture):
    """Sum of the rates of each objective's tasks; a language has one rate in all of them."""
    provider = seqio.MixtureRegistry.get(mixture)
    rates = {task.name: provider.get_rate(task) for task in provider.tasks}
    ruby = [rate for name, rate in rates.items() if name.endswith("_ruby")]
    python = [rate for name, rate in rates.items() if name.endswith("_python")]
    assert [r / p for r, p in zip(ruby, python, strict=True)] == pytest.approx(
        [ruby[0] / python[0]] * 3
    )
    return [
        sum(rate for name, rate in rates.items() if name.startswith(objective))
        for objective in tasks.OBJECTIVE_RATES
    ]


@pytest.mark.parametrize(
    "rates",
    [
        {"unimodal_span_denoising": 1.0},
        {**tasks.OBJECTIVE_RATES, "unimodal_decoder_clm": -1},
        {**tasks.OBJECTIVE_RATES, "unimodal_decoder_clm": float("nan")},
        dict.fromkeys(tasks.OBJECTIVE_RATES, 0),
    ],
)
def test_rates_that_draw_nothing_or_of_other_objectives_are_refused(
    corpus_dir, tokenizer_dir, rates
):
    with pytest.raises(
        ValueError, match=r"OBJECTIVE_RATES is .*unimodal_seq2seq_clm, unimodal_dec"
    ):
        tasks.register(corpus_dir, tokenizer_dir, objective_rates=rates)


@pytest.mark.parametrize("whole_words", [True, False])
def test_span_denoising_masks_words_or_tokens_as_registered(corpus_dir, tokenizer_dir, whole_words):
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, mask_whole_words=whole_words)
    task = seqio.TaskRegistry.get("unimodal_span_denoising_ruby")
    dataset = task.get_dataset({"inputs": 64, "targets": 40}, "train", shuffle=False)
    targets = [row["targets"] for row in dataset.take(200).as_numpy_iterator()]
    sentinels = 1_000  # the first of the ids that are no text
    spans = [s for row in targets for s in np.split(row, np.flatnonzero(row >= sentinels))[1:]]
    longest = max(np.count_nonzero(span > 2) - 1 for span in spans)
    assert (longest > 5) == whole_words  # five words are more tokens than five; five tokens never


def test_registering_twice_alike_does_nothing(corpus_dir, tokenizer_dir, tokenizer):
    for _ in range(2):
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    features = seqio.MixtureRegistry.get("bimodal_pairs").output_features
    assert features["code"].vocabulary == CodeVocabulary(tokenizer)
    assert features["pair_id"].rank == 0


def test_registering_otherwise_names_what_differs(corpus_dir, tokenizer_dir, tokenizer, tmp_path):
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    with pytest.raises(ValueError, match=r"languages \('python', 'ruby'\), now \('ruby',\)"):
        tasks.register(corpus_dir, tokenizer_dir, languages=["ruby"])
    with pytest.raises(ValueError, match=r"temperature 1\.4.*, now 2\.0"):
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, temperature=2.0)
    with pytest.raises(ValueError, match=r"mask_whole_words True, now False"):
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, mask_whole_words=False)
    with pytest.raises(ValueError, match=r"'unimodal_decoder_clm': 512.0}, now .*_clm': 7.0}"):
        rates = {**tasks.OBJECTIVE_RATES, "unimodal_decoder_clm": 7}
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, objective_rates=rates)
    train_tokenizer(["a b c"] * 9, 263, min_frequency=2).save(tmp_path)
    with pytest.raises(ValueError, match=f"tokenizer '{tokenizer.fingerprint}', now"):
        tasks.register(corpus_dir, tmp_path, languages=LANGUAGES)


def test_a_cache_of_another_tokenizer_is_refused(corpus_dir, cache_dir, tmp_path):
    train_tokenizer(["a b c"] * 9, 263, min_frequency=2).save(tmp_path)
    with pytest.raises(ValueError, match=r"cache in .* was written with tokenizer"):
        tasks.register(corpus_dir, tmp_path, languages=LANGUAGES, cache_dir=cache_dir)


def test_missing_directories_are_named(corpus_dir, tokenizer_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="No tokenizer in"):
        tasks.register(corpus_dir, tmp_path)
    with pytest.raises(FileNotFoundError, match="No dataset 'code_files' in the corpus"):
        tasks.register(tmp_path, tokenizer_dir)


def test_tasks_take_codegens_tokenizer(corpus_dir, tmp_path):
    folder = write_codegen_folder(tmp_path / "codegen", corpus_texts(corpus_dir), vocab_size=900)
    tasks.register(corpus_dir, folder, languages=("ruby",))
    tokenizer = load_tokenizer(folder)
    end, first = tokenizer.eos_id, tokenizer.sentinel_id(0)
    denoising = seqio.TaskRegistry.get("unimodal_span_denoising_ruby")
    dataset = denoising.get_dataset({"inputs": 96, "targets": 48}, "train", shuffle=False)
    for row in dataset.take(50).as_numpy_iterator():
        assert row["inputs"][0] == row["inputs"][-1] == row["targets"][-1] == end
        assert row["targets"][0] == first and first in row["inputs"]
    writing = seqio.TaskRegistry.get("text_to_code_ruby").get_dataset(
        {"inputs": 64, "targets": 96}, "train", shuffle=False
    )
    [example] = writing.take(1).as_numpy_iterator()
    assert example["targets"][0] == tokenizer.cdec_id
    assert tokenizer.decode(example["targets"].tolist()).startswith("def ")
