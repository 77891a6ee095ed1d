#!/usr/bin/env bash
# Trains on a GKE cluster with TPUs through xpk (https://github.com/AI-Hypercomputer/xpk), which
# queues the workload with Kueue and runs it as a JobSet. launch/README.md tells more.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
readonly SCRIPT=launch/xpk.sh

VALUES="project zone cluster name tpu-type num-slices image recipe gin_file model-dir corpus-dir
tokenizer-dir priority max-restarts grace-seconds libtpu-init-args"
SWITCHES="spot on-demand no-libtpu-args dry-run"
# shellcheck source=launch/command_line.sh
source "$here/command_line.sh"

usage() {
  cat <<'HELP'
usage: launch/xpk.sh FLAGS [-- ARGUMENT OF codet5p train ...]

Submits a training as an xpk workload. Its name is the run's: submitted again with the same MODEL_DIR
it resumes. `xpk workload list --cluster=CLUSTER` and kubectl show it.

Required
  --cluster=CLUSTER --name=NAME     where, and what the workload is called
  --tpu-type=TYPE                   v5litepod-16, v4-16, v5p-16, v6e-16, ...
  --image=IMAGE                     built from launch/docker/Dockerfile with EXTRAS=tpu
  --recipe=NAME | --gin_file=FILE   the recipe (gin/recipes/NAME.gin), or gin files
  --model-dir=FOLDER --corpus-dir=FOLDER --tokenizer-dir=FOLDER
                                    as the containers see them (attach storage with xpk storage)
Optional
  --project=P --zone=Z              those of gcloud config when left out
  --num-slices=1 --priority=medium --spot --on-demand
  --max-restarts=20                 of the JobSet, after a preemption
  --grace-seconds=300               between SIGTERM and SIGKILL: time to save a checkpoint
  --libtpu-init-args=ARGS           in place of launch/libtpu_args; --no-libtpu-args: none
  --dry-run                         print the command
HELP
}

workload_words() {  # sets workload: xpk's command line
  local flag generation
  workload=(xpk workload create
    --cluster="${given[cluster]}" --workload="${given[name]}"
    --tpu-type="${given[tpu-type]}" --num-slices="${given[num-slices]}"
    --docker-image="${given[image]}" --priority="${given[priority]}"
    --max-restarts="${given[max-restarts]}"
    --termination-grace-period-seconds="${given[grace-seconds]}")
  for flag in project zone; do
    if [[ -n ${given[$flag]:-} ]]; then workload+=("--$flag=${given[$flag]}"); fi
  done
  for flag in spot on-demand; do
    if [[ -n ${given[$flag]:-} ]]; then workload+=("--$flag"); fi
  done
  generation=$(tpu_generation "${given[tpu-type]}") || usage_error "--tpu-type ${given[tpu-type]} is \
of no known generation: v4-*, v5litepod-*, v5p-*, v6e-*"
  if [[ -z ${given[no-libtpu-args]:-} ]]; then
    workload+=(--env "LIBTPU_INIT_ARGS=${given[libtpu-init-args]:-$(libtpu_arguments "$generation")}")
  fi
  # xpk hands the command to a shell in the container.
  workload+=(--command="$(quoted "${train_command[@]}")")
}

read_flags "$@"
require cluster name tpu-type image model-dir corpus-dir tokenizer-dir
default_values num-slices=1 priority=medium max-restarts=20 grace-seconds=300
require_name
require_slices
require_counts max-restarts grace-seconds
[[ -z ${given[spot]:-} || -z ${given[on-demand]:-} ]] ||
  usage_error "--spot --on-demand exclude each other; give one"
build_train_command /opt/codet5p_jax/.venv/bin/codet5p
workload_words
print_or_exec "xpk is not installed: pip install xpk" "${workload[@]}"
