import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

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
    pytest.importorskip("libtpu")
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
            **{"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "LIBTPU_INIT_ARGS": arguments},
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


def test_slurm_queues_a_saved_job_again_and_ends_with_any_other_code(tmp_path):
    for code, restarts, requeued in (
        (143, 0, True),
        (143, 50, False),
        (2, 0, False),
        (0, 0, False),
    ):
        home = tmp_path / f"{code}_{restarts}"
        done, log = run_slurm(home, code=code, restarts=restarts)
        assert done.returncode == code
        assert ("requeue 7" in log) == requeued, (code, restarts)
        assert "srun --kill-on-bad-exit=1 .venv/bin/codet5p train --gin.NOTE=a b" in log


def run_slurm(home, *, code, restarts):
    (home / ".venv" / "bin").mkdir(parents=True)
    shutil.copy("/bin/true", home / ".venv" / "bin" / "codet5p")
    for name, exit_code in (("srun", code), ("scontrol", 0)):
        program = home / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {home}/log\nexit {exit_code}\n')
        program.chmod(0o755)
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", "--gin.NOTE=a b"],
        env={
            "PATH": f"{home}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(home),
            "SLURM_JOB_ID": "7",
            "SLURM_RESTART_COUNT": str(restarts),
        },
        capture_output=True,
        text=True,
    )
    return done, (home / "log").read_text()


def test_slurm_says_where_the_code_must_be(tmp_path):
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch"],
        env={"PATH": "/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"no .venv/bin/codet5p in {tmp_path}" in done.stderr
