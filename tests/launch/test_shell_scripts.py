import importlib.util
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from codet5p_jax.training.preemption import EXIT_CODES
from codet5p_jax.training.process_watch import LOST_PROCESS_EXIT_CODE
from tests.launch.conftest import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
PRESETS = sorted((LAUNCH / "libtpu_args").glob("*.sh"))
PROGRAMS = [s for s in SCRIPTS if s.read_text().startswith("#!")]


def preset(path):
    """The flags of a preset as bash reads them, name -> value."""
    text = f'source {shlex.quote(str(path))}; printf "%s\\n" "${{LIBTPU_FLAGS[@]}}"'
    lines = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in lines.stdout.splitlines())


def test_shellcheck_finds_nothing():
    shellcheck = pathlib.Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [shellcheck, "--external-sources", "--source-path=.", *SCRIPTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_error(script):
    assert re.search(r"^set -euo pipefail$", script.read_text(), flags=re.M)


COMMANDS = [
    *("tpu_vm.sh", "xpk.sh", "gke/render.sh", "slurm.sbatch", "multihost_local.sh"),
    *("install.sh", "mount_bucket.sh", "corpus_dataflow.sh", "corpus_flink.sh", "test_hf.sh"),
]


@pytest.mark.parametrize("script", COMMANDS)
def test_every_script_has_a_help_and_does_nothing_else(script, tmp_path):
    copy = shutil.copytree(LAUNCH, tmp_path / "launch") / script
    done = subprocess.run(["bash", copy, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) >= 4
    assert [path.name for path in tmp_path.iterdir()] == ["launch"]


def test_a_pod_of_no_processes_is_refused():
    script = LAUNCH / "multihost_local.sh"
    done = subprocess.run([script, "0", "--", "true"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "give a number of processes, 1 or more, -- and a command; got: 0" in done.stderr


def test_there_is_a_preset_for_every_generation():
    assert [path.stem for path in PRESETS] == ["v4", "v5e", "v5p", "v6e"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_flag_of_a_preset_has_its_reason(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    flags = [i for i, line in enumerate(lines) if line.startswith("--")]
    assert [lines[i] for i in flags if not lines[i - 1].startswith("#")] == []
    assert len(flags) == len(preset(path))


def test_the_sparse_core_and_async_fusion_never_take_the_same_collectives():
    for path in PRESETS:
        flags = preset(path)
        fused = flags["--xla_tpu_enable_async_collective_fusion"] == "true"
        offloaded = any(
            value == "true" for name, value in flags.items() if "sparse_core_collective" in name
        )
        assert fused != offloaded, path.stem


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_libtpu_accepts_the_preset(path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    topology = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}[path.stem]
    arguments = " ".join(f"{name}={value}" for name, value in preset(path).items())
    program = f"""
import jax, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
devices = topologies.get_topology_desc({topology!r}, platform="tpu").devices
mesh = Mesh(np.array(devices), ("data",))
x = jax.ShapeDtypeStruct((4096, 4096), "bfloat16", sharding=NamedSharding(mesh, P("data")))
y = jax.jit(lambda x: x.T @ x, out_shardings=NamedSharding(mesh, P())).lower(x).compile()
assert "all-reduce" in y.as_text()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PATH": "/usr/bin:/bin",
            "JAX_PLATFORMS": "cpu",
            "LIBTPU_INIT_ARGS": arguments,
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing runs on a TPU, so none need be locked
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_image_is_built_from_files_that_exist():
    text = (LAUNCH / "docker" / "Dockerfile").read_text()
    for path in re.findall(r"\blaunch/[\w./]+", text):
        assert (ROOT / path).exists(), path
    assert re.search(r'^ENTRYPOINT \["codet5p"\]$', text, flags=re.M)
    extras = (ROOT / "setup.py").read_text()
    for extra in re.findall(r"EXTRAS=(\w+)", text):
        assert f'"{extra}": [' in extras


def test_nothing_that_is_ignored_by_git_is_sent_to_the_image():
    ignored = (LAUNCH / "docker" / "Dockerfile.dockerignore").read_text().split()
    assert {".venv", "runs", ".git"} <= set(ignored)


def test_a_mounted_bucket_is_left_alone_and_another_is_mounted(tmp_path):
    log = tmp_path / "log"
    for name in ("gcsfuse", "sudo", "mountpoint"):
        program = tmp_path / name
        code = '[ "$2" = /mounted ]' if name == "mountpoint" else f'echo "{name} $*" >> {log}'
        program.write_text(f"#!/bin/bash\n{code}\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = LAUNCH / "mount_bucket.sh"
    subprocess.run([script, "gs://b", "/mounted"], env=environment, check=True)
    assert not log.exists()
    subprocess.run([script, "gs://b", "/mnt/b"], env=environment, check=True)
    assert log.read_text().splitlines()[-1] == "gcsfuse --implicit-dirs b /mnt/b"
    assert subprocess.run([script, "b"], env=environment, capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("codes", "restarts", "code", "requeued"),
    [
        ([0, 0], 0, 0, False),
        ([143, 143], 0, 143, True),
        ([143, 143], 50, 143, False),
        ([75, 143], 0, 75, True),
        ([75, 2], 0, 2, False),  # the others lost the one that crashed
        ([143, 1], 0, 1, False),
        ([None, 75], 0, 137, False),  # killed: wrote nothing
    ],
)
def test_slurm_queues_again_what_can_resume(tmp_path, codes, restarts, code, requeued):
    done, log = run_slurm(tmp_path, codes=codes, restarts=restarts)
    assert done.returncode == code, done.stderr
    assert ("requeue 7" in log) == requeued
    assert log.count("train --gin.NOTE=a b\n") == 2
    assert not list(tmp_path.glob(".exit_codes*"))


def run_slurm(home, *, codes, restarts):
    """Runs the batch script on two nodes whose codet5p exit with `codes`; None: by SIGKILL."""
    (home / ".venv" / "bin").mkdir(parents=True)
    ends = [f"exit {code}" if code is not None else "kill -KILL $PPID" for code in codes]
    programs = {
        ".venv/bin/codet5p": f"""
echo "$*" >> {home}/log
case $SLURM_PROCID in 0) {ends[0]} ;; 1) {ends[1]} ;; esac""",
        "srun": 'for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done; exit 1',
        "scontrol": f'echo "$*" >> {home}/log',
    }
    for name, code in programs.items():
        (home / name).write_text(f"#!/bin/bash\n{code}\n")
        (home / name).chmod(0o755)
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", "--gin.NOTE=a b"],
        env={
            "PATH": f"{home}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(home),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_RESTART_COUNT": str(restarts),
        },
        capture_output=True,
        text=True,
    )
    return done, (home / "log").read_text()


@pytest.mark.parametrize("script", ["slurm.sbatch", "tpu_workers.sh"])
def test_exit_codes_are_those_of_codet5p(script):
    text = (LAUNCH / script).read_text()
    for code in (LOST_PROCESS_EXIT_CODE, EXIT_CODES[signal.SIGTERM]):
        assert re.search(rf"readonly .*=({code})\b|=({code})\b.*#", text), code


def test_slurm_says_where_the_code_must_be(tmp_path):
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch"],
        env={"PATH": "/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"no .venv/bin/codet5p in {tmp_path}" in done.stderr
