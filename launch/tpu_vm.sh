#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud, from a queued resource to its deletion. Run again after
# whatever interrupted it, with the same arguments: it finds the queued resource and the training
# and goes on. launch/README.md tells more.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
readonly SCRIPT=launch/tpu_vm.sh

VALUES="project zone name accelerator-type runtime-version recipe gin_file model-dir corpus-dir
tokenizer-dir run-id num-slices reservation max-run-duration valid-until-duration service-account
network subnetwork setup-command libtpu-init-args max-preemptions backoff-seconds
max-backoff-seconds poll-seconds max-wait-seconds max-silence-seconds grace-polls log-dir"
SWITCHES="spot reserved guaranteed best-effort flex-start internal-ips tunnel-through-iap
no-libtpu-args allow-dirty allow-boot-disk keep keep-on-crash dry-run"
# shellcheck source=launch/command_line.sh
source "$here/command_line.sh"
# shellcheck source=launch/queued_resource.sh
source "$here/queued_resource.sh"
# shellcheck source=launch/tpu_workers.sh
source "$here/tpu_workers.sh"

readonly EXIT_CRASHED=1 EXIT_NOT_GRANTED=3 EXIT_PREEMPTIONS=4 EXIT_CLOUD=5 EXIT_STOPPED=6
readonly STABLE_SECONDS=3600  # a training that ran so long starts the back-off anew

usage() {
  cat <<'HELP'
usage: launch/tpu_vm.sh FLAGS [-- ARGUMENT OF codet5p train ...]

Requests a TPU slice, waits for it, ships HEAD, installs it, starts the training detached, shows its
log, begins again after a preemption, and deletes the slice when the training has ended.

Required
  --project=P --zone=Z              where
  --name=NAME                       of the queued resource
  --accelerator-type=TYPE           v4-32, v5litepod-16, v5p-16, v6e-16, ...
  --recipe=NAME | --gin_file=FILE   the recipe (gin/recipes/NAME.gin), or gin files; both may be given
  --model-dir=FOLDER --corpus-dir=FOLDER --tokenizer-dir=FOLDER
                                    absolute, as the workers see them; MODEL_DIR on storage that outlives them
Tier (one of them; none: on demand)
  --spot | --reserved | --guaranteed | --best-effort | --flex-start
  --reservation=NAME                a reservation by name, with --reserved
  --max-run-duration=4h             how long a flex-start slice is granted
  --valid-until-duration=12h        the request fails when it is not granted by then
The slice
  --num-slices=1                    slices joined over the data centre network
  --runtime-version=VERSION         the machines' image; looked up from the accelerator type
  --service-account=S --network=N --subnetwork=N --internal-ips --tunnel-through-iap
  --setup-command=COMMAND           run on every worker before each start, in the code's folder,
                                    for example 'bash launch/mount_bucket.sh BUCKET /mnt/bucket'
  --libtpu-init-args=ARGS           in place of launch/libtpu_args; --no-libtpu-args: none
The run
  --run-id=ID                       what the run is called on the workers and in --log-dir; NAME
  --log-dir=FOLDER                  logs and the lock; runs/launch/ID
  --allow-dirty                     ship HEAD although files differ from it
  --allow-boot-disk                 MODEL_DIR may lie on a disk that is lost with the machine
  --keep                            never delete the slice (it costs); --keep-on-crash: not then
  --dry-run                         print every command, run none
Patience
  --max-preemptions=20              begin again so often
  --backoff-seconds=60 --max-backoff-seconds=1800   the pause doubles with each preemption
  --max-wait-seconds=86400          until the slice is granted and ready
  --max-silence-seconds=3600        a log that does not grow so long is a hang
  --poll-seconds=30 --grace-polls=10
                                    a training that ended is a crash when its machines are still
                                    there so many polls later: news of a preemption lags
Exit codes
  0 trained  1 crashed or hung  2 wrong arguments  3 not granted  4 too many preemptions
  5 gcloud failed  6 someone else deleted or stopped it
HELP
}

# --- Arguments -----------------------------------------------------------------------------------

check_arguments() {
  require project zone name accelerator-type model-dir corpus-dir tokenizer-dir
  default_values num-slices=1 run-id="${given[name]}" max-preemptions=20 backoff-seconds=60 \
    max-backoff-seconds=1800 poll-seconds=30 max-wait-seconds=86400 max-silence-seconds=3600 \
    grace-polls=10
  default_values log-dir="$repository/runs/launch/${given[run-id]}"
  require_name
  require_slices
  require_counts max-preemptions backoff-seconds max-backoff-seconds poll-seconds \
    max-wait-seconds max-silence-seconds grace-polls
  [[ ${given[run-id]} =~ ^[A-Za-z0-9._-]+$ ]] ||
    usage_error "--run-id names a folder: letters, digits, . _ -; got '${given[run-id]}'"
  generation=$(tpu_generation "${given[accelerator-type]}") || usage_error "--accelerator-type \
${given[accelerator-type]} is of no known generation: v4-*, v5litepod-*, v5p-*, v6e-*"
  default_values runtime-version="$(runtime_version "$generation")"
  check_tier
  local program=(.venv/bin/codet5p) arguments
  if [[ -z ${given[no-libtpu-args]:-} ]]; then
    arguments=${given[libtpu-init-args]:-$(libtpu_arguments "$generation")}
    program=(env "LIBTPU_INIT_ARGS=$arguments" "${program[@]}")
  fi
  build_train_command "${program[@]}"
  fingerprint=$(printf '%s\0' "${train_command[@]}" | cksum | cut -d ' ' -f 1)
}

runtime_version() {  # https://cloud.google.com/tpu/docs/runtimes
  case $1 in
    v4) echo tpu-ubuntu2204-base ;;
    v5e) echo v2-alpha-tpuv5-lite ;;
    v5p) echo v2-alpha-tpuv5 ;;
    v6e) echo v2-alpha-tpuv6e ;;
  esac
}

check_tier() {
  local tier chosen=()
  for tier in spot reserved guaranteed best-effort flex-start; do
    if [[ -n ${given[$tier]:-} ]]; then chosen+=("--$tier"); fi
  done
  ((${#chosen[@]} < 2)) || usage_error "${chosen[*]} exclude each other; give one"
  [[ -z ${given[reservation]:-} || -n ${given[reserved]:-} ]] ||
    usage_error "--reservation needs --reserved"
  [[ -z ${given[flex-start]:-} || -n ${given[max-run-duration]:-} ]] ||
    usage_error "--flex-start needs --max-run-duration (at most seven days)"
}

check_tree() {  # what is shipped is HEAD; a run must be traceable to it
  revision=$(git -C "$repository" rev-parse --short=12 HEAD)
  local changed
  changed=$(git -C "$repository" status --porcelain | wc -l)
  ((changed)) || return 0
  [[ -n ${given[allow-dirty]:-} ]] || usage_error "$changed files differ from HEAD ($revision), which \
is what is shipped: commit them, or give --allow-dirty to leave them behind"
  say "warning: $changed files differ from HEAD ($revision); HEAD is shipped"
}

# --- The whole run -------------------------------------------------------------------------------

watch_training() {  # sets outcome: finished, crashed, restart, lost
  local doubts=0 heard=$SECONDS
  while :; do
    worker_status
    if show_log; then heard=$SECONDS; fi
    case $training in
      finished) while show_log; do :; done; outcome=finished; return ;;
      running) doubts=0 ;;
      *)
        if resource_is_lost; then outcome=lost; return; fi
        if [[ $nodes != CHANGING ]]; then doubts=$((doubts + 1)); fi
        if ((doubts > given[grace-polls])); then judge; return; fi ;;
    esac
    if ((SECONDS - heard > given[max-silence-seconds])); then code=silence outcome=crashed; return; fi
    pause
  done
}

judge() {  # the training has ended and its machines are still there
  case $training in
    failed) outcome=crashed ;;
    unreachable) outcome=lost ;;
    *) outcome=restart ;;
  esac
}

report_crash() {
  case $code in
    setup) say "the workers could not be set up, or the training not started (above)" ;;
    silence) say "the log has not grown for ${given[max-silence-seconds]} s: the training hangs" ;;
    *) say "the training crashed: exit code $code. The last lines of every worker:" ;;
  esac
  on_workers "$CALL_SECONDS" all "bash ~/codet5p_runs/worker.sh tail ${given[run-id]} 30" || true
  if [[ -n ${given[keep]:-}${given[keep-on-crash]:-} ]]; then
    say "${given[name]} is kept, and costs"
  else
    delete_resource
  fi
  fail "$EXIT_CRASHED" "logs are in ${given[log-dir]}; the same command resumes from the last checkpoint"
}

finish() {
  say "trained; MODEL_DIR is ${given[model-dir]}"
  if [[ -n ${given[keep]:-} ]]; then say "${given[name]} is kept, and costs"; else delete_resource; fi
}

back_off() {  # the pause doubles each time, up to a limit
  say "preemption $preemptions of at most ${given[max-preemptions]}; going on in $delay s"
  sleep "$delay"
  delay=$((delay * 2))
  if ((delay > given[max-backoff-seconds])); then delay=${given[max-backoff-seconds]}; fi
}

begin_again() {
  preemptions=$((preemptions + 1))
  if ((preemptions > given[max-preemptions])); then
    [[ -n ${given[keep]:-} ]] || delete_resource
    fail "$EXIT_PREEMPTIONS" "$preemptions preemptions, more than --max-preemptions allows; the same \
command resumes"
  fi
  if [[ $outcome == lost ]]; then delete_resource; fi
  back_off
  if [[ $outcome == lost ]]; then create_resource; fi
}

train() {
  local begun
  ensure_resource
  while :; do
    begun=$SECONDS
    wait_until_ready
    if [[ $outcome == ready ]]; then
      attach_or_start
      begun=$SECONDS
      if [[ $outcome == watch ]]; then watch_training; fi
    fi
    if ((by_hand)); then
      fail "$EXIT_STOPPED" "${given[name]} was deleted or stopped by someone else; not requesting it again"
    fi
    case $outcome in
      finished) finish; return ;;
      crashed) report_crash ;;
    esac
    if ((SECONDS - begun >= STABLE_SECONDS)); then delay=${given[backoff-seconds]}; fi
    begin_again
  done
}

print_commands() {  # --dry-run: every command of a run without trouble, in order
  queue_state
  create_resource
  queue_state
  node_states
  worker_status
  ship
  set_up
  start_training
  worker_status
  show_log || true
  if [[ -z ${given[keep]:-} ]]; then delete_resource; fi
}

interrupted() {
  trap - INT TERM
  say "stopped watching; the training goes on. The same command attaches to it again"
  exit 130
}

read_flags "$@"
check_arguments
check_tree
if [[ -n ${given[tunnel-through-iap]:-} ]]; then ssh_flags+=(--tunnel-through-iap); fi
outcome='' by_hand=0 preemptions=0 delay=${given[backoff-seconds]}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "${given[log-dir]}"
exec 3>&1
if [[ -n ${given[dry-run]:-} ]]; then
  print_commands
  exit
fi
exec 9>"${given[log-dir]}/lock"
flock -n 9 || usage_error "another $SCRIPT watches run ${given[run-id]} (${given[log-dir]}/lock)"
trap interrupted INT TERM
train
