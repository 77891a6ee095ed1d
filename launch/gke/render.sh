#!/usr/bin/env bash
# Writes launch/gke/jobset.yaml with a training's values filled in: pipe it to kubectl apply -f -.
set -euo pipefail
here=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
repository=$(dirname "$here")
readonly SCRIPT=launch/gke/render.sh

VALUES="name generation topology image claim mount recipe gin_file model-dir corpus-dir tokenizer-dir
num-slices chips-per-host max-restarts grace-seconds libtpu-init-args"
SWITCHES="spot no-libtpu-args"
# shellcheck source=launch/command_line.sh
source "$here/command_line.sh"

usage() {
  cat <<'HELP'
usage: launch/gke/render.sh FLAGS [-- ARGUMENT OF codet5p train ...] | kubectl apply -f -

Required
  --name=NAME                       of the JobSet
  --generation=v5e --topology=4x4   v4, v5e, v5p or v6e, and the shape of one slice in chips
  --image=IMAGE                     built from launch/docker/Dockerfile with EXTRAS=tpu
  --claim=CLAIM                     a PersistentVolumeClaim that all hosts may write (ReadWriteMany)
  --recipe=NAME | --gin_file=FILE   the recipe (gin/recipes/NAME.gin), or gin files
  --model-dir=FOLDER --corpus-dir=FOLDER --tokenizer-dir=FOLDER     below --mount
Optional
  --mount=/data                     where the claim is mounted
  --num-slices=1 --chips-per-host=4 --spot
  --max-restarts=20                 after preemptions; a crash is not restarted
  --grace-seconds=300               between SIGTERM and SIGKILL: time to save a checkpoint
  --libtpu-init-args=ARGS           in place of launch/libtpu_args; --no-libtpu-args: none
HELP
}

accelerator_label() {  # https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
  case $1 in
    v4) echo tpu-v4-podslice ;;
    v5e) echo tpu-v5-lite-podslice ;;
    v5p) echo tpu-v5p-slice ;;
    v6e) echo tpu-v6e-slice ;;
    *) usage_error "--generation must be v4, v5e, v5p or v6e, got '$1'" ;;
  esac
}

check_sides() {  # slices of v5e and v6e are flat, those of v4 and v5p are not
  local example=4x4
  case ${given[generation]} in v4 | v5p) example=2x2x4 ;; esac
  [[ ${given[topology]//[0-9]/} == "${example//[0-9]/}" ]] || usage_error "--topology is \
${given[topology]}, and slices of ${given[generation]} are like $example"
}

hosts() {  # hosts of one slice
  local topology=${given[topology]} per_host=${given[chips-per-host]} chips
  [[ $topology =~ ^[0-9]+(x[0-9]+)+$ ]] || usage_error "--topology must be like 4x4, got '$topology'"
  chips=$((${topology//x/ * }))
  ((per_host > 0 && chips % per_host == 0)) ||
    usage_error "$topology has $chips chips, which --chips-per-host=$per_host does not divide"
  echo $((chips / per_host))
}

json() {  # json WORD: as a JSON string, which YAML reads alike
  local word=$1
  [[ $word != *[[:cntrl:]]* ]] || usage_error "values must be of one line, got '$word'"
  word=${word//\\/\\\\}
  printf '"%s"' "${word//\"/\\\"}"
}

json_list() {
  local word line=
  for word in "$@"; do line+="${line:+, }$(json "$word")"; done
  echo "[$line]"
}

fill() {  # fill NAME TEXT
  template=${template//"\${$1}"/"$2"}
}

read_flags "$@"
require name generation topology image claim model-dir corpus-dir tokenizer-dir
default_values mount=/data num-slices=1 chips-per-host=4 max-restarts=20 grace-seconds=300
require_name
require_slices
require_counts chips-per-host max-restarts grace-seconds
build_train_command /opt/codet5p_jax/.venv/bin/codet5p
accelerator=$(accelerator_label "${given[generation]}")
hosts=$(hosts)
check_sides
spot='' arguments=''
if [[ -n ${given[spot]:-} ]]; then spot='cloud.google.com/gke-spot: "true"'; fi
if [[ -z ${given[no-libtpu-args]:-} ]]; then
  arguments=${given[libtpu-init-args]:-$(libtpu_arguments "${given[generation]}")}
fi
for value in "${given[@]}" "${train_command[@]}"; do json "$value" >/dev/null; done

template=$(<"$here/gke/jobset.yaml")
fill NAME "$(json "${given[name]}")"
fill MAX_RESTARTS "${given[max-restarts]}"
fill NUM_SLICES "${given[num-slices]}"
fill HOSTS "$hosts"
fill GRACE_SECONDS "${given[grace-seconds]}"
fill ACCELERATOR "$accelerator"
fill TOPOLOGY "${given[topology]}"
fill SPOT_SELECTOR "$spot"
fill IMAGE "$(json "${given[image]}")"
fill CHIPS_PER_HOST "${given[chips-per-host]}"
fill MOUNT "$(json "${given[mount]}")"
fill CLAIM "$(json "${given[claim]}")"
fill LIBTPU_INIT_ARGS "$(json "$arguments")"
fill COMMAND "$(json_list "${train_command[@]}")"  # last: a user's text may hold a placeholder
echo "$template"
