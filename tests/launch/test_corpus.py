"""The commands that build a corpus on a cluster, and Beam's graph with their options."""

import argparse
import logging
import shlex
import subprocess

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)

from codet5p_jax.cli import corpus
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.pipeline import build_graph
from codet5p_jax.corpus.sources import Source
from tests.launch.conftest import ROOT

DATAFLOW = [
    *("--project=p", "--region=europe-west4", "--source=hf://datasets/bigcode/the-stack"),
    *("--out=gs://b/corpus", "--temp-location=gs://b/tmp", "--image=r/codet5p:beam"),
]
FLINK = ["--flink-master=host:8081", "--out=/mnt/it's shared/corpus"]


def _run(script, *words):
    return subprocess.run(
        [ROOT / "launch" / f"corpus_{script}.sh", *words], capture_output=True, text=True
    )


def _parsed(script, *words):
    """What codet5p makes of the command that a script would run."""
    done = _run(script, "--dry-run", *words)
    assert done.returncode == 0, done.stderr
    program, command, *rest = shlex.split(done.stdout)
    assert (program, command) == ("codet5p", "corpus")
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    corpus.add_arguments(parser)
    return parser.parse_args(rest)


def _graph(options, tmp_path):
    """The graph of a build, as it is sent to a runner."""
    pipeline = beam.Pipeline(runner="DirectRunner", options=options)
    source = Source(name="a", ecosystem="archive", places=("/mnt/a.tar",), split="train")
    build = BuildOptions(out_dir=str(tmp_path), filters=Filters(), licenses=("MIT",), num_shards=2)
    build_graph(pipeline, [source], build)
    return pipeline.to_runner_api()


def _options(parsed, caplog):
    with caplog.at_level(logging.WARNING):
        options = PipelineOptions([f"--runner={parsed.runner}", *parsed.beam_options])
        options.get_all_options()
    assert "unparseable" not in caplog.text and "unrecognized" not in caplog.text.lower()
    return options


def test_dataflow_gets_options_that_beam_knows_and_a_graph(tmp_path, caplog):
    more = ["--service-account=a@p.iam", "--no-public-ips", "--", "--licenses=any"]
    parsed = _parsed("dataflow", *DATAFLOW, *more)
    assert (parsed.source, parsed.out) == (["hf://datasets/bigcode/the-stack"], "gs://b/corpus")
    assert (parsed.licenses, parsed.num_shards) == ("any", 256)
    options = _options(parsed, caplog)
    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    assert (cloud.project, cloud.region, cloud.job_name) == ("p", "europe-west4", "codet5p-corpus")
    assert (cloud.temp_location, cloud.service_account_email) == ("gs://b/tmp", "a@p.iam")
    assert (workers.max_num_workers, workers.machine_type) == (64, "n2-standard-4")
    assert (workers.sdk_container_image, workers.use_public_ips) == ("r/codet5p:beam", False)
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    names = {t.unique_name for t in _graph(options, tmp_path).components.transforms.values()}
    assert {"extract", "pairs", "duplicates", "shards", "summary"} <= names


@pytest.mark.parametrize(
    "words, environment",
    [
        (["--worker-pool=localhost:50000"], ("EXTERNAL", "localhost:50000")),
        (["--image=r/codet5p:beam"], ("DOCKER", "r/codet5p:beam")),
    ],
)
def test_flink_gets_options_that_beam_knows_and_a_graph(words, environment, tmp_path, caplog):
    parsed = _parsed("flink", *FLINK, "--recipe=open_source", "--archives=/mnt/a", *words)
    assert (parsed.recipe, parsed.archives) == ("open_source", "/mnt/a")
    assert parsed.out == "/mnt/it's shared/corpus"
    options = _options(parsed, caplog)
    portable = options.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == environment
    assert options.view_as(FlinkRunnerOptions).flink_master == "host:8081"
    assert _graph(options, tmp_path).components.transforms


@pytest.mark.parametrize(
    "script, words, message",
    [
        ("dataflow", DATAFLOW[1:], "--project is required"),
        ("dataflow", [*DATAFLOW, "--source=/mnt/a"], "workers see no folder of this machine"),
        ("dataflow", [*DATAFLOW, "--max-workers=many"], "--max-workers must be a whole number"),
        ("dataflow", [*DATAFLOW, "--regoin=x"], "Did you mean --region?"),
        ("flink", FLINK, "give one of --source and --recipe"),
        ("flink", [*FLINK, "--recipe=quickstart", "--image=i"], "--archives is required"),
        ("flink", [*FLINK, "--source=/a"], "give one of --worker-pool and --image"),
        ("flink", [*FLINK, "extra"], "what belongs to codet5p corpus build stands behind --"),
    ],
)
def test_mistakes_are_told_before_anything_starts(script, words, message):
    done = _run(script, "--dry-run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
