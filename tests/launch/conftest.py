"""A repository with the launch scripts, and a cloud of folders that a fake gcloud plays."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
STUB_INSTALL = """#!/usr/bin/env bash
# Stands for launch/install.sh: its codet5p runs what the test wrote.
set -euo pipefail
echo "$EXTRAS" >> "$HOME/installed_extras"
mkdir -p .venv/bin
cat > .venv/bin/codet5p <<'SCRIPT'
#!/usr/bin/env bash
printf '%s\\0' "$@" > "$HOME/arguments"
printf '%s' "${LIBTPU_INIT_ARGS:-}" > "$HOME/libtpu_init_args"
source "$FAKE_CLOUD/training.sh"
SCRIPT
chmod +x .venv/bin/codet5p
"""


def git(repository, *words):
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *settings, *words], cwd=repository, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A committed repository with the real launch scripts, one recipe and a stub of install.sh."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "launch", folder / "launch")
    (folder / "launch" / "install.sh").write_text(STUB_INSTALL)
    (folder / "gin" / "recipes").mkdir(parents=True)
    (folder / "gin" / "recipes" / "tiny.gin").write_text("# tiny\n")
    (folder / ".gitignore").write_text("/runs/\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


class Cloud:
    """A fake cloud, and the launcher that works with it."""

    def __init__(self, folder, repository):
        self.folder = folder
        self.repository = repository
        self.model_dir = folder / "model dir's"
        (folder / "bin").mkdir()
        gcloud = folder / "bin" / "gcloud"
        program = pathlib.Path(__file__).with_name("fake_gcloud.py").read_text()
        gcloud.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{program}")  # starts fastest
        gcloud.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_CLOUD": str(folder),
            "PYTHON": "unused",
        }

    def plays(self, *lives, training="exit 0"):
        """Sets the history of the resources and what codet5p does on the workers."""
        (self.folder / "history.json").write_text(json.dumps(lives))
        (self.folder / "training.sh").write_text(training)

    def words(self, *more):
        train = more[more.index("--") :] if "--" in more else ()
        flags = more[: len(more) - len(train)]
        return [
            str(self.repository / "launch" / "tpu_vm.sh"),
            *("--project=p", "--zone=us-west4-a", "--name=night", "--recipe=tiny"),
            *("--accelerator-type=v5litepod-16", f"--model-dir={self.model_dir}"),
            *("--corpus-dir=/mnt/corpus", "--tokenizer-dir=/mnt/tokenizer"),
            *("--poll-seconds=0", "--backoff-seconds=0", "--grace-polls=2", "--allow-boot-disk"),
            *(f"--log-dir={self.folder / 'logs'}", *flags, *train),
        ]

    def run(self, *more):
        return subprocess.run(
            self.words(*more), env=self.environment, capture_output=True, text=True, timeout=120
        )

    def start(self, *more):
        """Starts the launcher and returns at once."""
        return subprocess.Popen(
            self.words(*more),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def calls(self, *verb):
        """Argument lists of the gcloud calls with a verb, e.g. "queued-resources", "create"."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [json.loads(line) for line in lines]
        return [c for c in calls if c[c.index("tpus") + 1 :][: len(verb)] == list(verb)]

    @property
    def resource(self):
        path = self.folder / "resource"
        return json.loads(path.read_text()) if path.exists() else None

    def change_resource(self, **changes):
        (self.folder / "resource").write_text(json.dumps({**self.resource, **changes}))


@pytest.fixture
def cloud(tmp_path, repository):
    cloud = Cloud(tmp_path, repository)
    yield cloud
    if cloud.resource:
        subprocess.run(
            [
                *("gcloud", "compute", "tpus", "queued-resources", "delete", "night"),
                *("--project=p", "--zone=z"),
            ],
            env=cloud.environment,
        )
