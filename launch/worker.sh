#!/usr/bin/env bash
# The side of launch/tpu_vm.sh that runs on every worker of a slice. What it keeps is in
# ~/codet5p_runs/RUN_ID: command, fingerprint, revision, started, pid, log.txt and, once the
# training has ended, exit_code.
#
#   worker.sh setup REVISION [SETUP_COMMAND]     in the unpacked code: installs it into .venv
#   worker.sh start RUN_ID STARTED REVISION FINGERPRINT COMMAND...   starts it detached
#   worker.sh status RUN_ID                      one line: codet5p_status HOST STARTED REVISION FINGERPRINT STATE [CODE]
#   worker.sh log RUN_ID OFFSET                  what the log holds behind OFFSET bytes, at most 1 MiB
#   worker.sh tail RUN_ID LINES                  its last lines, each behind the host's name
#   worker.sh stop RUN_ID                        SIGTERM: codet5p saves and exits; SIGKILL after two minutes
set -euo pipefail

runs=$HOME/codet5p_runs
readonly LOG_BYTES=1048576 STOP_SECONDS=${STOP_SECONDS:-120}

fail() { echo "launch/worker.sh on $(hostname): $*" >&2; exit 1; }

content() { cat "$1" 2>/dev/null || echo -; }

find_python() {  # TPU images bring Python 3.10; uv brings a newer one without root
  local version
  if [[ -n ${PYTHON:-} ]]; then echo "$PYTHON"; return; fi
  for version in 3.11 3.12 3.13; do
    if command -v "python$version" >/dev/null; then command -v "python$version"; return; fi
  done
  python3 -m pip install --quiet --user uv >&2
  "$HOME/.local/bin/uv" python install --quiet 3.12 >&2
  "$HOME/.local/bin/uv" python find 3.12
}

setup() {
  local revision=$1 command=${2:-}
  mkdir -p "$runs"
  cp launch/worker.sh "$runs/worker.sh"  # one place for every revision
  echo "$revision" >git_revision
  if [[ $(content .installed) != "$revision" ]]; then
    PYTHON=$(find_python) EXTRAS=${EXTRAS:-tpu} bash launch/install.sh
    echo "$revision" >.installed
  fi
  if [[ -n $command ]]; then bash -c "$command"; fi
}

is_alive() {  # is_alive FOLDER: a process id alone may be another process's after a reboot
  local pid
  pid=$(content "$1/pid")
  [[ $pid != - ]] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "supervise $1"
}

check_outlives_machine() {  # the boot disk is lost with the machine, and the run with it
  local word folder
  for word in "$@"; do
    [[ $word == --gin.MODEL_DIR=* ]] || continue
    folder=${word#*=}
    until [[ -e $folder ]]; do folder=$(dirname "$folder"); done
    [[ $(df --output=target "$folder" | tail -n 1) != / ]] || fail "MODEL_DIR ${word#*=} lies on the \
boot disk, which is lost with the machine. Mount shared storage (--setup-command), or give --allow-boot-disk."
  done
}

start() {
  local folder=$runs/$1 started=$2 revision=$3 fingerprint=$4
  shift 4
  if is_alive "$folder"; then
    [[ $(content "$folder/fingerprint") == "$fingerprint" ]] ||
      fail "run ${folder##*/} is going on with other arguments; stop it first: worker.sh stop ${folder##*/}"
    return
  fi
  if [[ -z ${ALLOW_BOOT_DISK:-} ]]; then check_outlives_machine "$@"; fi
  mkdir -p "$folder"
  rm -f "$folder"/{exit_code,pid}
  quoted_command "$@" >"$folder/command"
  echo "$fingerprint" >"$folder/fingerprint"
  echo "$revision" >"$folder/revision"
  echo "$started" >"$folder/started"
  if [[ -e $folder/log.txt ]]; then mv "$folder/log.txt" "$folder/log.previous.txt"; fi
  # A session of its own, no terminal: it outlives the ssh connection.
  setsid nohup bash launch/worker.sh supervise "$folder" "$@" </dev/null >"$folder/log.txt" 2>&1 &
  echo $! >"$folder/pid"
}

quoted_command() {
  printf '%q ' "$@"
  echo
}

supervise() {  # runs a command, hands SIGTERM on to it and writes down how it ended
  local folder=$1 child code asked
  shift
  "$@" &
  child=$!
  trap 'asked=1; kill -TERM "$child" 2>/dev/null || true' TERM INT
  while :; do
    asked=0 code=0
    wait "$child" || code=$?
    ((asked)) || break  # a signal ends `wait`, not the command
  done
  echo "$code" >"$folder/exit_code.new"
  mv "$folder/exit_code.new" "$folder/exit_code"
}

status() {
  local folder=$runs/$1 state=absent
  if [[ -f $folder/exit_code ]]; then
    state="exited $(content "$folder/exit_code")"
  elif is_alive "$folder"; then
    state=running
  elif [[ -f $folder/pid ]]; then
    state=gone
  fi
  echo "codet5p_status $(hostname) $(content "$folder/started") $(content "$folder/revision")" \
    "$(content "$folder/fingerprint") $state"
}

log() { tail -c "+$(($2 + 1))" "$runs/$1/log.txt" | head -c "$LOG_BYTES" || true; }

tail_log() { tail -n "$2" "$runs/$1/log.txt" | sed "s/^/$(hostname): /"; }

stop() {
  local folder=$runs/$1 second
  is_alive "$folder" || return 0
  kill -TERM "$(content "$folder/pid")"
  for ((second = 0; second < STOP_SECONDS; second++)); do
    is_alive "$folder" || return 0
    sleep 1
  done
  kill -KILL -- "-$(content "$folder/pid")" 2>/dev/null || true  # the whole session
}

action=${1:-}
shift || true
case $action in
  setup | start | supervise | status | log | stop) "$action" "$@" ;;
  tail) tail_log "$@" ;;
  *) fail "unknown action '$action'; one of setup, start, status, log, tail, stop" ;;
esac
