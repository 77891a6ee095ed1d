import contextlib
import json
import pathlib

import pytest
import seqio

import tasks
from codet5p_jax.data.batches import DatasetConfig, batch_shapes, batches
from codet5p_jax.data.offline_cache import OfflineCache
from codet5p_jax.tokenizer import load_tokenizer

pytestmark = pytest.mark.usefixtures("registry")
LENGTHS = {"inputs": 200, "targets": 200}


@pytest.fixture
def files(tmp_path):
    """Two files, the second nine times as large."""
    for name, count in (("small", 40), ("large", 360)):
        records = [
            {"instruction": f"Say {name} {i}.", "output": f"{name} {i}"} for i in range(count)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return {name: str(tmp_path / f"{name}.json") for name in ("small", "large")}


def _register(corpus_dir, tokenizer_dir, files, **options):
    tasks.register(
        corpus_dir, tokenizer_dir, languages=("ruby",), instruction_files=files, **options
    )


def test_each_file_is_a_task_and_the_mixture_draws_by_size(corpus_dir, tokenizer_dir, files):
    _register(corpus_dir, tokenizer_dir, files, temperature=2.0)
    mixture = seqio.MixtureRegistry.get("instruction")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates["instruction_large"] / rates["instruction_small"] == pytest.approx(3, rel=0.1)


def test_examples_are_read_by_seqio(corpus_dir, tokenizer_dir, files, tokenizer):
    _register(corpus_dir, tokenizer_dir, files)
    dataset = seqio.TaskRegistry.get("instruction_small").get_dataset(LENGTHS, shuffle=False)
    [example] = dataset.take(1).as_numpy_iterator()
    answer = example["targets"][example["loss_weights"] == 1]
    assert tokenizer.decode(answer.tolist()).startswith("small ")
    prompt = tokenizer.decode(example["inputs"].tolist())
    assert prompt.endswith("### Response:")
    assert tokenizer.decode(example["targets"].tolist()).startswith(prompt)


@pytest.mark.parametrize("use_cached", [False, True])
def test_batches_hold_every_instruction_once_an_epoch(
    corpus_dir, tokenizer_dir, files, tokenizer, tmp_path, use_cached
):
    _register(corpus_dir, tokenizer_dir, files)
    if use_cached:
        origin = tasks.origin(corpus_dir, tokenizer, files)
        OfflineCache(tmp_path / "cache", origin=origin).write(
            seqio.TaskRegistry.get("instruction_large")
        )
        seqio.add_global_cache_dirs([str(tmp_path / "cache")])
    config = DatasetConfig(
        mixture_or_task_name="instruction_large",
        task_feature_lengths=LENGTHS,
        batch_size=8,
        num_epochs=1,
        use_cached=use_cached,
    )
    with contextlib.closing(batches(config)) as iterator:
        texts = [text for batch in iterator for text in _answers(batch, tokenizer)]
    count = seqio.TaskRegistry.get("instruction_large").num_input_examples("train")
    assert len(texts) == len(set(texts)) == count > 300
    assert all(text.startswith("large ") for text in texts)


def _answers(batch, tokenizer):
    """Texts of what has a loss, of rows or of the segments of packed rows."""
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    segments = batch.get("decoder_segment_ids", (targets != tokenizer.pad_id).astype(int))
    return [
        tokenizer.decode(row[(ids == segment) & (weight == 1)].tolist())
        for row, weight, ids in zip(targets, weights, segments, strict=True)
        for segment in range(1, ids.max() + 1)
    ]


@pytest.mark.parametrize("folder", ["tokenizer_dir", "codegen_dir"])
def test_packed_instructions_have_a_loss_on_their_answers_too(corpus_dir, files, folder, request):
    directory = request.getfixturevalue(folder)
    _register(corpus_dir, directory, files)
    tokenizer = load_tokenizer(directory)
    config = DatasetConfig(
        mixture_or_task_name="instruction_small",
        task_feature_lengths={"inputs": 700, "targets": 700},
        example_lengths={"instruction": LENGTHS},
        batch_size=8,
        num_epochs=1,
        num_virtual_shards=1,
        pack=True,
    )
    with contextlib.closing(batches(config)) as iterator:
        read = list(iterator)
    texts = [text for batch in read for text in _answers(batch, tokenizer)]
    count = seqio.TaskRegistry.get("instruction_small").num_input_examples("train")
    assert len(texts) == len(set(texts)) == count > 20
    assert all(text.startswith("small ") for text in texts)
    starts = read[0]["decoder_input_tokens"][read[0]["decoder_positions"] == 0]
    assert set(starts.tolist()) <= {tokenizer.start_id, tokenizer.pad_id}
    assert read[0]["decoder_segment_ids"].max() > 2


def test_instructions_are_registered_without_a_corpus(tokenizer_dir, files, tokenizer):
    tasks.register(None, tokenizer_dir, instruction_files=files)
    assert seqio.MixtureRegistry.names() == {"instruction"}
    assert set(tasks.origin(None, tokenizer, files)) == {
        *("tokenizer", "instruction_small", "instruction_large")
    }


def test_neither_a_corpus_nor_instructions_are_refused(tokenizer_dir):
    with pytest.raises(ValueError, match=r"nothing to register.* Give corpus_dir"):
        tasks.register(None, tokenizer_dir)


def test_a_small_file_that_holds_nothing_out_leaves_held_out_data_to_the_others(
    tokenizer_dir, files, tokenizer, tmp_path
):
    record = {"instruction": "Say it.", "output": "it"}  # its hash puts it into training
    (tmp_path / "tiny.json").write_text(json.dumps([record]))
    files["tiny"] = str(tmp_path / "tiny.json")
    tasks.register(None, tokenizer_dir, instruction_files=files)
    options = {
        "task_feature_lengths": LENGTHS,
        "batch_size": 8,
        "split": "validation",
        "shuffle": False,
    }
    config = DatasetConfig(mixture_or_task_name="instruction", **options)
    with contextlib.closing(batches(config)) as iterator:
        texts = {text for _ in range(9) for text in _answers(next(iterator), tokenizer)}
    assert "it" not in texts and {text.split()[0] for text in texts} == {"small", "large"}
    with pytest.raises(ValueError, match=r"'validation' of instruction_tiny holds no example"):
        batch_shapes(DatasetConfig(mixture_or_task_name="instruction_tiny", **options))


def test_registering_twice_alike_does_nothing_and_others_are_refused(
    corpus_dir, tokenizer_dir, codegen_dir, files
):
    for _ in range(2):
        _register(corpus_dir, tokenizer_dir, files)
    with pytest.raises(ValueError, match=r"are registered already.*Use another process"):
        _register(corpus_dir, tokenizer_dir, {"small": files["small"]})
    # The file is another one now; the tasks still hold what it was.
    contents = pathlib.Path(files["small"]).read_text()
    pathlib.Path(files["small"]).write_text(contents + " ")
    with pytest.raises(ValueError, match=r"are registered already.* now .*SHA-256"):
        _register(corpus_dir, tokenizer_dir, files)
    pathlib.Path(files["small"]).write_text(contents)
    with pytest.raises(ValueError, match=r"are registered already .* tokenizer .*, now "):
        tasks.register(None, codegen_dir, instruction_files=files)


def test_a_cache_of_other_instructions_is_refused(
    corpus_dir, tokenizer_dir, files, tokenizer, tmp_path
):
    OfflineCache(tmp_path / "cache", origin=tasks.origin(corpus_dir, tokenizer, files))
    with open(files["small"], "w") as file:
        json.dump([{"instruction": "Another.", "output": "one"}], file)
    with pytest.raises(ValueError, match="was written with instruction_small"):
        _register(corpus_dir, tokenizer_dir, files, cache_dir=tmp_path / "cache")


def test_a_missing_file_is_named_with_its_setting(tokenizer_dir, files):
    message = (
        r"INSTRUCTION_FILES\['none'\] \(on a command line --instructions=none=\.\.\.\) "
        r"is 'none\.json', which is no file\. Give one"
    )
    with pytest.raises(FileNotFoundError, match=message):
        tasks.register(None, tokenizer_dir, instruction_files={**files, "none": "none.json"})


@pytest.mark.parametrize(
    ("got", "instead"),
    [
        ("made.json", "{'made': 'made.json'}"),
        ("runs/code-made.json", "{'code_made': 'runs/code-made.json'}"),
        (["made.json"], "{'NAME': 'FILE.json'}"),
        ({"made": 3}, "{'NAME': 'FILE.json'}"),
        ({3: "made.json"}, "{'NAME': 'FILE.json'}"),
    ],
)
def test_files_without_names_are_refused_with_the_form_to_write(tokenizer_dir, got, instead):
    with pytest.raises(ValueError) as raised:
        tasks.register(None, tokenizer_dir, instruction_files=got)
    assert str(raised.value) == (
        f"INSTRUCTION_FILES is a dict NAME -> path, got {got!r}. "
        f'Write --gin.INSTRUCTION_FILES="{instead}".'
    )
