#!/usr/bin/env bash
# Runs a command as N processes of one run on this machine, over loopback: a pod to try things on.
#   launch/multihost_local.sh 2 -- codet5p train --gin_file=recipes/quickstart_stage1.gin ...
# Each line of output begins with the process it is from. SIGTERM and Ctrl-C go to all processes. When one fails, the
# others have GRACE_SECONDS to say so and go; then they are ended. Exits with the code of the first failure, but for 75: who
# exits with that has only lost another.
# On a CPU a process has JAX_NUM_CPU_DEVICES devices, one unless it is set.
set -euo pipefail
grace=${GRACE_SECONDS:-60}
lost_another=75 # codet5p_jax/training/process_watch.py

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }

if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage; exit; fi
[[ $# -ge 3 && $1 =~ ^[1-9][0-9]*$ && $2 == -- ]] || {
  echo "multihost_local: give a number of processes, 1 or more, -- and a command; got: $*" >&2
  usage >&2
  exit 2
}
count=$1
shift 2
command -v "$1" >/dev/null || { echo "multihost_local: no command $1; give its path" >&2; exit 2; }

free_port() {
  "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

export JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES=$count
JAX_COORDINATOR_ADDRESS=127.0.0.1:$(free_port)
export JAX_COORDINATOR_BIND_ADDRESS=$JAX_COORDINATOR_ADDRESS JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}

declare -A running=() # process id -> index of the process
for ((index = 0; index < count; index++)); do
  JAX_PROCESS_ID=$index "$@" > >(sed -u "s/^/[$index] /") 2> >(sed -u "s/^/[$index] /" >&2) &
  running[$!]=$index
done

signal_all() {
  local pid
  for pid in "${!running[@]}"; do kill -"$1" "$pid" 2>/dev/null || true; done
}

asked_to_stop=
forward() {
  asked_to_stop=1
  signal_all "$1"
}
trap 'forward TERM' TERM
trap 'forward INT' INT

deadline=
first_failure=0
while ((${#running[@]})); do
  ended=
  code=0
  # With a deadline the wait is broken off each second, to look at the clock.
  ticker=
  if [[ -n $deadline ]]; then
    sleep 1 &
    ticker=$!
  fi
  wait -n -p ended ${ticker:+"$ticker"} "${!running[@]}" || code=$?
  if [[ -n $ended && -n ${running[$ended]:-} ]]; then
    index=${running[$ended]}
    unset "running[$ended]"
    if ((code)); then
      ((first_failure && first_failure != lost_another)) || first_failure=$code
      if ((code > 128)) && [[ -z $asked_to_stop ]]; then
        echo "multihost_local: process $index (pid $ended) ended by signal $((code - 128))" >&2
      else
        echo "multihost_local: process $index (pid $ended) exited with code $code" >&2
      fi
      [[ -n $asked_to_stop || -n $deadline ]] || deadline=$((SECONDS + grace))
    fi
  fi
  [[ -z $ticker ]] || kill "$ticker" 2>/dev/null || true
  if [[ -n $deadline ]] && ((SECONDS > deadline + 10)); then
    signal_all KILL
  elif [[ -n $deadline ]] && ((SECONDS > deadline)); then
    signal_all TERM
  fi
done
exit "$first_failure"
