import re
import shlex
import signal
import subprocess
import time

import pytest

from tests.launch.conftest import git

QUEUED = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
FOR_EVER = "while :; do sleep 0.1; done"


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_run_waits_in_the_queue_trains_and_deletes_the_slice(cloud):
    cloud.plays({"states": QUEUED}, training='echo "step 1"; echo "step 2"')
    done = cloud.run("--spot")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "step 1\nstep 2\n"
    assert re.findall(r"night is (\w+)", done.stderr) == QUEUED
    assert cloud.calls("queued-resources", "create") == [
        [
            *("compute", "tpus", "queued-resources", "create", "night"),
            *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
            *("--node-id=night", "--spot", "--project=p", "--zone=us-west4-a"),
        ]
    ]
    assert len(cloud.calls("queued-resources", "scp")) == 1
    assert cloud.resource is None


def test_every_worker_gets_the_arguments_the_flags_and_the_revision(cloud):
    odd = ["--gin.NOTE=a 'quoted' \"word\" $HOME `x`", "--gin.BATCH_SIZE=8"]
    cloud.plays({"states": ["ACTIVE"], "workers": 3})
    done = cloud.run("--keep", "--", *odd)
    assert done.returncode == 0, done.stderr
    revision = git(cloud.repository, "rev-parse", "--short=12", "HEAD")
    for i in range(3):
        home = cloud.folder / f"worker_{i}"
        assert (home / "arguments").read_text().split("\0")[:-1] == [
            "train",
            "--multihost",
            "--gin_file=recipes/tiny.gin",
            f"--gin.MODEL_DIR={cloud.model_dir}",
            "--gin.CORPUS_DIR=/mnt/corpus",
            "--gin.TOKENIZER_DIR=/mnt/tokenizer",
            *odd,
        ]
        flags = (home / "libtpu_init_args").read_text().split()
        assert "--xla_tpu_enable_async_collective_fusion=true" in flags
        assert (home / "installed_extras").read_text() == "tpu\n"
        assert (home / f"codet5p_jax-{revision}" / "git_revision").read_text() == f"{revision}\n"
        assert (home / "codet5p_runs" / "night" / "revision").read_text() == f"{revision}\n"


def test_a_preempted_run_begins_again_with_the_same_model_dir(cloud):
    training = f'echo "life $(cat $FAKE_CLOUD/life)"; [ $(cat $FAKE_CLOUD/life) = 2 ] || {FOR_EVER}'
    cloud.plays({"states": QUEUED, "preempted_at": 4}, {"states": QUEUED}, training=training)
    done = cloud.run("--spot")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "life 1\nlife 2\n"
    assert len(list((cloud.folder / "logs").glob("*.log"))) == 2
    assert "preemption 1 of at most 20" in done.stderr
    verbs = [c[c.index("tpus") + 2] for c in cloud.calls("queued-resources")]
    assert [v for v in verbs if v in ("create", "delete")] == ["create", "delete"] * 2
    starts = [c for c in cloud.calls("queued-resources", "ssh") if "worker.sh start" in str(c)]
    model_dirs = [re.findall(r"--gin.MODEL_DIR=\S+", str(c)) for c in starts]
    assert len(starts) == 2 and model_dirs[0] == model_dirs[1]


def test_a_preempted_node_is_a_preemption_although_the_training_failed(cloud):
    training = "[ $(cat $FAKE_CLOUD/life) = 2 ] || exit 1"
    lives = {"states": ["ACTIVE"], "nodes": ["READY", "PREEMPTED"]}, {"states": ["ACTIVE"]}
    cloud.plays(*lives, training=training)
    done = cloud.run("--spot")
    assert done.returncode == 0, done.stderr
    assert "node night is PREEMPTED" in done.stderr


def test_a_crash_stops_with_the_last_lines_of_every_worker(cloud):
    cloud.plays({"states": QUEUED}, training='echo "ValueError: no such thing"; exit 2')
    done = cloud.run()
    assert done.returncode == 1
    assert "the training crashed: exit code 2" in done.stderr
    assert len(re.findall(r"^\S+: ValueError: no such thing$", done.stdout, flags=re.M)) == 2
    assert len(cloud.calls("queued-resources", "create")) == 1
    assert cloud.resource is None
    assert "ValueError" in next((cloud.folder / "logs").glob("*.log")).read_text()


def test_a_crashed_slice_is_kept_when_asked(cloud):
    cloud.plays({"states": ["ACTIVE"]}, training="exit 2")
    done = cloud.run("--keep-on-crash")
    assert done.returncode == 1
    assert cloud.resource is not None
    assert "night is kept, and costs" in done.stderr


def test_a_training_that_saved_behind_a_signal_is_started_again_on_the_same_slice(cloud):
    training = "if [ -e $HOME/saved ]; then exit 0; fi; touch $HOME/saved; exit 143"
    cloud.plays({"states": ["ACTIVE"]}, training=training)
    done = cloud.run()
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("queued-resources", "create")) == 1


def test_a_training_that_vanished_is_started_again(cloud):
    training = """
if [ -e $HOME/seen ]; then exit 0; fi
touch $HOME/seen
kill -KILL -- -$(cat $HOME/codet5p_runs/night/pid)
"""
    cloud.plays({"states": ["ACTIVE"]}, training="sleep 0.3\n" + training)
    done = cloud.run()
    assert done.returncode == 0, done.stderr
    assert "preemption 1 of at most 20" in done.stderr


def test_the_worker_that_failed_decides_not_those_that_lost_it(cloud):
    cloud.plays({"states": ["ACTIVE"]}, training="case $HOME in *worker_0) exit 75 ;; esac; exit 2")
    done = cloud.run()
    assert done.returncode == 1
    assert "the training crashed: exit code 2" in done.stderr


def test_workers_that_all_lost_another_are_started_again(cloud):
    training = "if [ -e $HOME/seen ]; then exit 0; fi; touch $HOME/seen; exit 75"
    cloud.plays({"states": ["ACTIVE"]}, training=training)
    done = cloud.run()
    assert done.returncode == 0, done.stderr
    assert "preemption 1 of at most 20" in done.stderr


def test_workers_that_fail_because_another_vanished_are_no_crash(cloud):
    training = """
if [ -e $HOME/seen ]; then exit 0; fi
touch $HOME/seen
case $HOME in *worker_0) sleep 0.3; kill -KILL -- -$(cat $HOME/codet5p_runs/night/pid) ;; esac
exit 1
"""
    cloud.plays({"states": ["ACTIVE"]}, training=training)
    done = cloud.run()
    assert done.returncode == 0, done.stderr


def test_a_failed_request_stops_and_shows_why(cloud):
    cloud.plays({"states": ["ACCEPTED", "FAILED"]})
    done = cloud.run("--valid-until-duration=2h")
    assert done.returncode == 3
    assert "code: 8" in done.stderr and "the request failed" in done.stderr
    assert cloud.calls("queued-resources", "ssh") == []


def test_a_request_that_is_never_granted_is_given_up_and_deleted(cloud):
    cloud.plays({"states": ["WAITING_FOR_RESOURCES"]})
    done = cloud.run("--max-wait-seconds=0")
    assert done.returncode == 3
    assert "not ready after 0 s (last: WAITING_FOR_RESOURCES" in done.stderr
    assert cloud.resource is None


def test_a_request_that_gcloud_refuses_is_an_error(cloud):
    cloud.plays({"states": ["ACTIVE"]})
    (cloud.folder / "refuse_create").write_text("true")
    done = cloud.run()
    assert done.returncode == 5
    assert "Quota limit" in done.stderr and "gcloud did not take the request" in done.stderr


def test_preemptions_have_a_limit(cloud):
    cloud.plays(*[{"states": ["SUSPENDED"]}] * 3)
    done = cloud.run("--max-preemptions=2")
    assert done.returncode == 4
    assert len(cloud.calls("queued-resources", "create")) == 3
    assert cloud.resource is None


def test_the_pause_doubles_up_to_its_limit(cloud):
    (cloud.folder / "bin" / "sleep").write_text('#!/bin/sh\necho "$1" >> $FAKE_CLOUD/pauses\n')
    (cloud.folder / "bin" / "sleep").chmod(0o755)
    cloud.plays(*[{"states": ["SUSPENDED"]}] * 5)
    cloud.run("--max-preemptions=4", "--backoff-seconds=10", "--max-backoff-seconds=35")
    pauses = (cloud.folder / "pauses").read_text().split()
    assert [p for p in pauses if p != "0"] == ["10", "20", "35", "35"]


def test_a_slice_that_someone_suspended_is_not_requested_again(cloud):
    life = {"states": ["ACTIVE"], "preempted_at": 3, "initiator": "USER"}
    cloud.plays(life, training=FOR_EVER)
    done = cloud.run()
    assert done.returncode == 6
    assert len(cloud.calls("queued-resources", "create")) == 1


def test_workers_that_nobody_reaches_are_replaced(cloud):
    training = f"[ $(cat $FAKE_CLOUD/life) = 2 ] || {FOR_EVER}"
    cloud.plays({"states": ["ACTIVE"], "unreachable_at": 3}, {"states": QUEUED}, training=training)
    done = cloud.run()
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("queued-resources", "create")) == 2


def test_a_gcloud_that_fails_now_and_then_is_asked_again(cloud):
    cloud.plays({"states": QUEUED})
    (cloud.folder / "failures").write_text("4")
    done = cloud.run()
    assert done.returncode == 0, done.stderr
    assert "could not describe night (4 of 5): ERROR" in done.stderr


def test_a_gcloud_that_always_fails_changes_nothing(cloud):
    cloud.plays({"states": QUEUED})
    (cloud.folder / "failures").write_text("5")
    done = cloud.run()
    assert done.returncode == 5
    assert "gcloud fails; nothing was changed" in done.stderr
    assert cloud.calls("queued-resources", "create") == []


def test_stopping_a_worker_lets_the_training_save(cloud):
    training = f"trap 'echo saved; exit 143' TERM; echo begun; {FOR_EVER}"
    cloud.plays({"states": ["ACTIVE"]}, training=training)
    first = cloud.start()
    assert first.stdout.readline() == "begun\n"
    first.kill()
    first.communicate()
    home = cloud.folder / "worker_0"
    worker = ["bash", home / "codet5p_runs" / "worker.sh"]
    environment = {**cloud.environment, "HOME": str(home)}
    subprocess.run([*worker, "stop", "night"], env=environment, check=True)
    status = subprocess.run(
        [*worker, "status", "night"], env=environment, check=True, capture_output=True, text=True
    )
    assert status.stdout.endswith(" exited 143\n")
    assert (home / "codet5p_runs" / "night" / "log.txt").read_text() == "begun\nsaved\n"


def test_a_silent_log_is_a_hang(cloud):
    cloud.plays({"states": ["ACTIVE"]}, training=FOR_EVER)
    done = cloud.run("--max-silence-seconds=1")
    assert done.returncode == 1
    assert "has not grown for 1 s: the training hangs" in done.stderr
    assert cloud.resource is None


def test_a_launcher_killed_in_the_queue_goes_on_with_the_same_request(cloud):
    cloud.plays({"states": ["WAITING_FOR_RESOURCES"]}, training="echo trained")
    first = cloud.start()
    wait_until(lambda: len(cloud.calls("queued-resources", "describe")) > 2)
    first.kill()
    first.communicate()
    cloud.change_resource(states=QUEUED)
    second = cloud.run()
    assert second.returncode == 0, second.stderr
    assert "found night, WAITING_FOR_RESOURCES: going on with it" in second.stderr
    assert len(cloud.calls("queued-resources", "create")) == 1
    assert second.stdout == "trained\n"


def test_the_training_outlives_the_launcher_and_the_next_one_attaches(cloud):
    training = "echo begun; until [ -e $FAKE_CLOUD/enough ]; do sleep 0.05; done; echo trained"
    cloud.plays({"states": ["ACTIVE"]}, training=training)
    first = cloud.start()
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 130
    assert "the training goes on" in first.communicate()[1]
    second = cloud.start()
    wait_until(lambda: len(cloud.calls("queued-resources", "ssh")) > 8)
    (cloud.folder / "enough").touch()
    out, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert "the training is running; showing its log" in errors
    assert out == "trained\n"  # the first one showed and kept the rest
    assert len(cloud.calls("queued-resources", "scp")) == 1


def test_a_finished_training_is_only_deleted(cloud):
    cloud.plays({"states": ["ACTIVE"]})
    assert cloud.run("--keep").returncode == 0
    assert cloud.run().returncode == 0
    assert len(cloud.calls("queued-resources", "scp")) == 1
    assert cloud.resource is None


def test_a_running_training_with_other_arguments_is_not_attached_to(cloud):
    cloud.plays({"states": ["ACTIVE"]}, training=FOR_EVER)
    first = cloud.start()
    wait_until(lambda: (cloud.folder / "worker_1" / "arguments").exists())
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=20)
    second = cloud.run("--", "--gin.BATCH_SIZE=9")
    assert second.returncode == 2
    assert "is going on with other arguments" in second.stderr


def test_a_name_that_holds_another_accelerator_is_an_error(cloud):
    cloud.plays({"states": ["WAITING_FOR_RESOURCES"]})
    cloud.run("--max-wait-seconds=0", "--keep")
    done = cloud.run("--accelerator-type=v4-8")
    assert done.returncode == 2
    assert "night is a v5litepod-16, not v4-8; give another --name" in done.stderr


def test_only_one_launcher_watches_a_run(cloud):
    cloud.plays({"states": ["WAITING_FOR_RESOURCES"]})
    first = cloud.start()
    wait_until(lambda: cloud.calls("queued-resources", "create"))
    second = cloud.run()
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another launch/tpu_vm.sh watches run night" in second.stderr


def test_dry_run_prints_every_command_and_runs_none(cloud):
    setup = "mount '/mnt/a b'"
    done = cloud.run("--dry-run", "--spot", f"--setup-command={setup}", "--", "--gin.NOTE=it's")
    assert done.returncode == 0, done.stderr
    assert cloud.calls() == []
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [words[:5] for words in commands if words[0] == "gcloud"][1] == [
        *("gcloud", "compute", "tpus", "queued-resources", "create")
    ]
    verbs = [words[4] if words[0] == "gcloud" else words[3] for words in commands]
    assert verbs == [
        *("describe", "create", "describe", "describe", "ssh", "archive", "scp", "ssh", "ssh"),
        *("ssh", "ssh", "delete"),
    ]
    set_up, start = (words[-3].removeprefix("--command=") for words in (commands[7], commands[8]))
    assert shlex.split(set_up)[-1] == setup
    assert f"--gin.MODEL_DIR={cloud.model_dir}" in shlex.split(start)
    assert shlex.split(start)[-1] == "--gin.NOTE=it's"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--reserved"], ["--reserved"]),
        (
            ["--guaranteed", "--valid-until-duration=6h"],
            ["--guaranteed", "--valid-until-duration=6h"],
        ),
        (["--best-effort"], ["alpha", "--best-effort"]),
        (["--reserved", "--reservation=r"], ["alpha", "--reserved", "--reservation=r"]),
        (
            ["--flex-start", "--max-run-duration=4h"],
            ["alpha", "--provisioning-model=flex-start", "--max-run-duration=4h"],
        ),
        (["--num-slices=2"], ["--node-count=2", "--node-prefix=night"]),
        (["--internal-ips", "--tunnel-through-iap"], ["--internal-ips"]),
        (["--service-account=s", "--network=n", "--subnetwork=m"], ["--service-account=s"]),
    ],
)
def test_tiers_and_slices_become_flags_that_gcloud_has(cloud, flags, words):
    cloud.plays({"states": ["ACTIVE"]})
    done = cloud.run(*flags)
    assert done.returncode == 0, done.stderr
    (call,) = cloud.calls("queued-resources", "create")
    assert set(words) <= set(call)
    assert ("alpha" in call) == ("alpha" in words)


def test_all_slices_must_be_ready(cloud):
    cloud.plays({"states": ["ACTIVE"], "nodes": ["READY", "CREATING", "READY"]})
    done = cloud.run("--num-slices=2")
    assert done.returncode == 0, done.stderr
    nodes = [call[4] for call in cloud.calls("tpu-vm", "describe")]
    assert nodes == ["night-0", "night-1"] * 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--acelerator-type=v4-8"],
            "unknown flag --acelerator-type. Did you mean --accelerator-type?",
        ),
        (["--spott"], "Did you mean --spot?"),
        (["stray"], "unexpected argument 'stray'"),
        (["--spot", "--reserved"], "--spot --reserved exclude each other"),
        (["--spot=yes"], "--spot takes no value"),
        (["--flex-start"], "--flex-start needs --max-run-duration"),
        (["--reservation=r"], "--reservation needs --reserved"),
        (["--recipe=tinny"], "no gin file recipes/tinny.gin. Did you mean recipes/tiny.gin?"),
        (["--accelerator-type=h100"], "h100 is of no known generation"),
        (["--model-dir=gs://b/run"], "mount the bucket (launch/mount_bucket.sh)"),
        (["--model-dir=runs/stage1"], "--model-dir is runs/stage1, which on a worker lies in the"),
        (["--dry-run", "--model-dir=~/run"], "give an absolute path, of storage that is mounted"),
        (["--corpus-dir=corpus"], "--corpus-dir is corpus, which on a worker"),
        (["--max-preemptions=many"], "--max-preemptions must be a whole number, got 'many'"),
        (["--run-id=a b"], "--run-id names a folder"),
        (
            ["--name=it's a run"],
            "63 at most; got 'it's a run'",
        ),
        (["--num-slices=0"], "--num-slices must be a whole number, 1 or more, got '0'"),
        (["--zone="], "--zone is empty"),
        (["--zone"], "--zone needs a value"),
    ],
)
def test_wrong_arguments_name_the_way_out(cloud, flags, message):
    done = cloud.run(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert cloud.calls() == []


def test_required_flags_are_named(cloud):
    done = subprocess.run([cloud.words()[0], "--zone=z"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--project is required" in done.stderr


def test_help_names_every_flag(cloud):
    script = (cloud.repository / "launch" / "tpu_vm.sh").read_text()
    flags = re.findall(r'^(?:VALUES|SWITCHES)="(.*?)"', script, flags=re.M | re.S)
    done = subprocess.run([cloud.words()[0], "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    missing = [f for f in " ".join(flags).split() if f"--{f}" not in done.stdout]
    assert missing == []


def test_a_dirty_tree_is_refused_unless_allowed(cloud):
    cloud.plays({"states": ["ACTIVE"]})
    stray = cloud.repository / "new_file"
    stray.touch()
    try:
        refused, allowed = cloud.run(), cloud.run("--allow-dirty")
    finally:
        stray.unlink()
    assert refused.returncode == 2
    assert "1 files differ from HEAD" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert "warning: 1 files differ" in allowed.stderr


def test_a_model_dir_on_the_boot_disk_is_refused(cloud):
    cloud.plays({"states": ["ACTIVE"]})
    words = [
        w for w in cloud.words("--model-dir=/root_of_boot_disk/run") if w != "--allow-boot-disk"
    ]
    done = subprocess.run(words, env=cloud.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lies on the boot disk, which is lost with the machine" in done.stderr
    assert "could not be set up, or the training not started" in done.stderr


def test_the_setup_command_runs_on_every_worker(cloud):
    cloud.plays({"states": ["ACTIVE"]})
    done = cloud.run("--keep", '--setup-command=echo "it\'s here" > ~/mounted')
    assert done.returncode == 0, done.stderr
    for i in range(2):
        assert (cloud.folder / f"worker_{i}" / "mounted").read_text() == "it's here\n"
