#!/usr/bin/env bash
# Builds a corpus on an Apache Flink cluster whose workers share folders with this machine.
# launch/README.md tells more.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
readonly SCRIPT=launch/corpus_flink.sh
# shellcheck disable=SC2034  # command_line.sh reads it
readonly COMMAND="codet5p corpus build"

VALUES="flink-master source recipe archives out num-shards parallelism worker-pool image"
SWITCHES="dry-run"
# shellcheck source=launch/command_line.sh
source "$here/command_line.sh"

usage() {
  cat <<'HELP'
usage: launch/corpus_flink.sh FLAGS [-- ARGUMENT OF codet5p corpus build ...]

Runs `codet5p corpus build` with Beam's FlinkRunner. Stopped or failed, the same command goes on with
the sources that are extracted already.

Required
  --flink-master=HOST:8081          of the cluster
  --source=PLACE | --recipe=NAME --archives=FOLDER
                                    what is read: addresses, or folders that all workers see; a
                                    recipe is fetched by this machine, into the folder of archives
  --out=FOLDER                      where the corpus goes; all workers see it
  --worker-pool=HOST:50000 | --image=IMAGE
                                    Beam workers that run beside each task manager, or the container
                                    (launch/docker/Dockerfile.beam) that each starts
Optional
  --num-shards=64 --parallelism=16
  --dry-run                         print the command
HELP
}

build_words() {  # sets build: codet5p's command line
  build=(codet5p corpus build)
  if [[ -n ${given[recipe]:-} ]]; then
    build+=("--recipe=${given[recipe]}" "--archives=${given[archives]}")
  else
    build+=("--source=${given[source]}")
  fi
  build+=(--out="${given[out]}" --num_shards="${given[num-shards]}" --runner=FlinkRunner
    "${train_arguments[@]}" --
    --flink_master="${given[flink-master]}" --parallelism="${given[parallelism]}")
  if [[ -n ${given[image]:-} ]]; then
    build+=(--environment_type=DOCKER "--environment_config=${given[image]}")
  else
    build+=(--environment_type=EXTERNAL "--environment_config=${given[worker-pool]}")
  fi
}

exactly_one() {  # exactly_one FLAG OTHER
  [[ -n ${given[$1]:-} && -z ${given[$2]:-} || -z ${given[$1]:-} && -n ${given[$2]:-} ]] ||
    usage_error "give one of --$1 and --$2"
}

read_flags "$@"
require flink-master out
exactly_one source recipe
exactly_one worker-pool image
if [[ -n ${given[recipe]:-} ]]; then require archives; fi
default_values num-shards=64 parallelism=16
require_counts num-shards parallelism
build_words
print_or_exec "codet5p is not on the PATH: . .venv/bin/activate" "${build[@]}"
