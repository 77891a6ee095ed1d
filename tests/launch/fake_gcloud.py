"""A gcloud that plays a scripted history, for tests that put it on PATH.

The folder $FAKE_CLOUD holds failures, how many of the next `describe` calls fail, and history.json,
one entry for each queued resource that is created:
  states: what `describe` answers in turn; the last stays
  nodes: the nodes' states in turn; the last stays (default READY)
  preempted_at: the status query of the workers at which the resource is suspended (default never)
  initiator: who suspended it (default SERVICE)
  unreachable_at: the status query from which on no worker answers (default never)
  workers: how many there are (default 2)
Workers are folders; `ssh` runs the command in each with bash, as their HOME. calls.jsonl records
every call. Flags are those of gcloud 528; any other is an error, as there.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

CLOUD = pathlib.Path(os.environ["FAKE_CLOUD"])
WHERE = {"project", "zone"}
GA_CREATE = {
    *("accelerator-type", "runtime-version", "node-id", "node-count", "node-prefix", "spot"),
    *("guaranteed", "reserved", "valid-until-duration", "internal-ips", "network", "subnetwork"),
    "service-account",
}
FLAGS = {
    "queued-resources create": GA_CREATE,
    "alpha queued-resources create": GA_CREATE
    | {"best-effort", "provisioning-model", "max-run-duration", "reservation"},
    "queued-resources describe": {"format"},
    "queued-resources delete": {"force", "quiet"},
    "queued-resources ssh": {"node", "worker", "command", "quiet", "tunnel-through-iap"},
    "queued-resources scp": {"node", "worker", "quiet", "tunnel-through-iap"},
    "tpu-vm describe": {"format"},
}


def read(name, default=None):
    path = CLOUD / name
    return json.loads(path.read_text()) if path.exists() else default


def write(name, value):
    (CLOUD / name).write_text(json.dumps(value))


def parse(words):
    track = ["alpha"] if words[0] == "alpha" else []
    words = words[len(track) :]
    assert words[:2] == ["compute", "tpus"], words
    verb = " ".join([*track, *words[2:4]])
    positionals, flags = [], {}
    for word in words[4:]:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            if name not in FLAGS[verb] | WHERE:
                sys.exit(f"ERROR: (gcloud.{verb}) unrecognized arguments: {word}")
            flags[name] = value
        else:
            positionals.append(word)
    if set(flags) < WHERE:
        sys.exit(f"ERROR: (gcloud.{verb}) needs --project and --zone")
    return verb, positionals, flags


def take_turn(resource, key):
    """The next of a list of states; the last stays."""
    turns = resource[key]
    return turns.pop(0) if len(turns) > 1 else turns[0]


def homes(resource):
    return [CLOUD / f"worker_{i}" for i in range(resource.get("workers", 2))]


def end_machines(resource):
    for home in homes(resource):
        for pid in home.glob("codet5p_runs/*/pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def create(positionals, flags):
    life = read("life", 0) + 1
    write("life", life)
    if read("refuse_create"):
        sys.exit("ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit exceeded")
    resource = {
        "nodes": ["READY"],
        **read("history.json")[life - 1],
        "type": flags["accelerator-type"],
    }
    for home in homes(resource):
        home.mkdir()
    write("resource", resource)


def describe(positionals, flags):
    failures = read("failures", 0)
    if failures:
        write("failures", failures - 1)
        sys.exit("ERROR: (gcloud.describe) 503 Service Unavailable")
    resource = read("resource")
    if resource is None:
        sys.exit("ERROR: (gcloud.describe) NOT_FOUND: Resource was not found")
    state = take_turn(resource, "states")
    write("resource", resource)
    if flags["format"].startswith("csv"):
        print(f"{state},{resource.get('initiator', '')},{resource['type']}")
    else:
        print(f"state:\n  failedData:\n    error:\n      code: 8\n  state: {state}")


def describe_node(positionals, flags):
    resource = read("resource")
    state = take_turn(resource, "nodes")
    write("resource", resource)
    print(state)


def delete(positionals, flags):
    resource = read("resource")
    if resource is not None:
        end_machines(resource)
        (CLOUD / "resource").unlink()


def chosen(resource, flags):
    machines = homes(resource)
    return machines if flags["worker"] == "all" else [machines[int(flags["worker"])]]


def ssh(positionals, flags):
    resource = read("resource")
    if "worker.sh status" in flags["command"]:
        resource["queries"] = resource.get("queries", 0) + 1
        if resource["queries"] == resource.get("preempted_at"):
            resource["states"] = ["SUSPENDED"]
            resource.setdefault("initiator", "SERVICE")
            end_machines(resource)
        write("resource", resource)
        if resource["queries"] >= resource.get("unreachable_at", sys.maxsize):
            sys.exit(255)
    codes = []
    for home in chosen(resource, flags):
        if not home.exists():
            sys.exit(255)
        done = subprocess.run(
            ["bash", "-c", flags["command"]],
            cwd=home,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "FAKE_CLOUD": str(CLOUD)},
        )
        codes.append(done.returncode)
    sys.exit(max(codes))


def scp(positionals, flags):
    source, target = positionals
    for home in chosen(read("resource"), flags):
        shutil.copy(source, home / target.partition(":")[2])


def main():
    with (CLOUD / "calls.jsonl").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    verb, positionals, flags = parse(sys.argv[1:])
    actions = {
        "queued-resources create": create,
        "alpha queued-resources create": create,
        "queued-resources describe": describe,
        "queued-resources delete": delete,
        "queued-resources ssh": ssh,
        "queued-resources scp": scp,
        "tpu-vm describe": describe_node,
    }
    actions[verb](positionals, flags)


if __name__ == "__main__":
    main()
