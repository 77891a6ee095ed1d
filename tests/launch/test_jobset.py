import signal
import subprocess

import pytest
import yaml

from codet5p_jax.training.preemption import EXIT_CODES
from codet5p_jax.training.process_watch import LOST_PROCESS_EXIT_CODE
from tests.launch.conftest import ROOT

# The part of jobset.x-k8s.io/v1alpha2 (api/jobset/v1alpha2/jobset_types.go) and of the Job and Pod
# that the file uses. A dict is an object without other fields; a list is a list of its one entry;
# {str: ...} a map; a set the permitted values. "?" marks what may be missing.
POD = {
    "restartPolicy": {"Never"},  # podFailurePolicy allows no other
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {str: str},
    "tolerations": [{"key": str, "operator": {"Exists"}, "effect": {"NoSchedule"}}],
    "containers": [
        {
            "name": str,
            "image": str,
            "command": [str],
            "env": [{"name": str, "value": str}],
            "ports": [{"containerPort": int}],
            "resources": {"requests": {str: int}, "limits": {str: int}},
            "volumeMounts": [{"name": str, "mountPath": str}],
        }
    ],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
}
JOB = {
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "podFailurePolicy": {
        "rules": [
            {
                "action": {"FailJob", "Ignore", "Count", "FailIndex"},
                "onPodConditions?": [{"type": str, "status": str}],
                "onExitCodes?": {
                    "containerName": str,
                    "operator": {"In", "NotIn"},
                    "values": [int],
                },
            }
        ]
    },
    "template": {"spec": POD},
}
JOBSET = {
    "apiVersion": {"jobset.x-k8s.io/v1alpha2"},
    "kind": {"JobSet"},
    "metadata": {"name": str, "annotations": {str: str}},
    "spec": {
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [
                {
                    "name": str,
                    "action": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"},
                    "onJobFailureReasons": [
                        {"BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"}
                    ],
                }
            ],
        },
        "replicatedJobs": [{"name": str, "replicas": int, "template": {"spec": JOB}}],
    },
}


def check(value, schema, path="$"):
    if isinstance(schema, type):
        assert type(value) is schema, f"{path}: {value!r} is no {schema.__name__}"
    elif isinstance(schema, set):
        assert value in schema, f"{path}: {value!r} is none of {schema}"
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, f"{path}: {value!r} is no list with entries"
        for i, item in enumerate(value):
            check(item, schema[0], f"{path}[{i}]")
    elif str in schema:
        for key, item in value.items():
            check(key, str, path)
            check(item, schema[str], f"{path}.{key}")
    else:
        known = {key.removesuffix("?"): item for key, item in schema.items()}
        required = {key for key in schema if not key.endswith("?")}
        assert required <= set(value) <= set(known), f"{path}: {sorted(value)}"
        for key, item in value.items():
            check(item, known[key], f"{path}.{key}")


def render(*flags):
    words = {
        "--name": "night",
        "--generation": "v5e",
        "--topology": "4x4",
        "--image": "europe-docker.pkg.dev/p/r/codet5p:tpu",
        "--claim": "codet5p-data",
        "--recipe": "stage1_220m",
        "--model-dir": "/data/run",
        "--corpus-dir": "/data/corpus",
        "--tokenizer-dir": "/data/tokenizer",
    }
    given = {flag.split("=", 1)[0] for flag in flags}
    first = [f"{name}={value}" for name, value in words.items() if name not in given]
    return subprocess.run(
        [ROOT / "launch" / "gke" / "render.sh", *first, *flags], capture_output=True, text=True
    )


def jobset(*flags):
    done = render(*flags)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def job_of(document):
    return document["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(document):
    return job_of(document)["template"]["spec"]


@pytest.mark.parametrize("flags", [(), ("--spot", "--num-slices=2"), ("--no-libtpu-args",)])
def test_the_rendered_jobset_is_of_its_schema(flags):
    check(jobset(*flags), JOBSET)


def test_the_schema_finds_a_misspelt_and_a_missing_field():
    document = jobset()
    with pytest.raises(AssertionError, match=r"\$\.spec"):
        check({**document, "spec": {**document["spec"], "replicatedJob": []}}, JOBSET)
    del document["spec"]["failurePolicy"]["maxRestarts"]
    with pytest.raises(AssertionError, match="failurePolicy"):
        check(document, JOBSET)


@pytest.mark.parametrize(
    ("generation", "topology", "label", "hosts"),
    [
        ("v4", "2x2x2", "tpu-v4-podslice", 2),
        ("v5e", "4x4", "tpu-v5-lite-podslice", 4),
        ("v5p", "2x2x4", "tpu-v5p-slice", 4),
        ("v6e", "16x16", "tpu-v6e-slice", 64),
    ],
)
def test_a_slice_is_a_job_with_a_pod_for_each_host(generation, topology, label, hosts):
    document = jobset(f"--generation={generation}", f"--topology={topology}")
    job = job_of(document)
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (hosts, hosts, 0)
    assert pod_of(document)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    assert pod_of(document)["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}


def test_a_crash_fails_the_set_and_a_preemption_restarts_it():
    document = jobset("--max-restarts=3")
    first, second = job_of(document)["podFailurePolicy"]["rules"]
    assert (first["action"], first["onPodConditions"][0]["type"]) == ("Count", "DisruptionTarget")
    assert (second["action"], second["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert {LOST_PROCESS_EXIT_CODE, EXIT_CODES[signal.SIGTERM]} <= {
        *second["onExitCodes"]["values"]
    }
    assert not {0, 1, 2} & set(second["onExitCodes"]["values"])
    policy = document["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 3
    assert policy["rules"] == [
        {"name": "crashed", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]


def test_arguments_arrive_as_they_were_given():
    odd = """--gin.NOTE=it's a "word" \\ ${IMAGE} & {[: #"""
    container = pod_of(jobset("--spot", "--", odd))["containers"][0]
    assert container["command"] == [
        *(
            "/opt/codet5p_jax/.venv/bin/codet5p",
            "train",
            "--multihost",
            "--gin_file=recipes/stage1_220m.gin",
        ),
        *("--gin.MODEL_DIR=/data/run", "--gin.CORPUS_DIR=/data/corpus"),
        *("--gin.TOKENIZER_DIR=/data/tokenizer", odd),
    ]
    assert "--xla_enable_async_all_gather=true" in container["env"][0]["value"].split()


def test_spot_nodes_are_selected():
    selector = pod_of(jobset("--spot"))["nodeSelector"]
    assert selector["cloud.google.com/gke-spot"] == "true"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--generation=v7", "--generation must be v4, v5e, v5p or v6e, got 'v7'"),
        ("--topology=16", "--topology must be like 4x4, got '16'"),
        ("--topology=3x3", "3x3 has 9 chips, which --chips-per-host=4 does not divide"),
        ("--topology=4x4x4", "--topology is 4x4x4, and slices of v5e are like 4x4"),
        ("--num-slices=0", "--num-slices must be a whole number, 1 or more, got '0'"),
        ("--name=a\nb", "--name must be of small letters, digits and -"),
        ("--image=a\nb", "values must be of one line"),
        ("--claims=c", "Did you mean --claim?"),
    ],
)
def test_wrong_values_are_named(flag, message):
    done = render(flag)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
