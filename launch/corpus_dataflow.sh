#!/usr/bin/env bash
# Builds a corpus on Google Cloud Dataflow, from data sets that its workers read themselves.
# launch/README.md tells more.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
readonly SCRIPT=launch/corpus_dataflow.sh
# shellcheck disable=SC2034  # command_line.sh reads it
readonly COMMAND="codet5p corpus build"

VALUES="project region name source out temp-location image num-shards max-workers machine-type
disk-gb service-account subnetwork"
SWITCHES="no-public-ips dry-run"
# shellcheck source=launch/command_line.sh
source "$here/command_line.sh"

usage() {
  cat <<'HELP'
usage: launch/corpus_dataflow.sh FLAGS [-- ARGUMENT OF codet5p corpus build ...]

Runs `codet5p corpus build` with Beam's DataflowRunner. Stopped or failed, the same command goes on
with the sources that are extracted already.

Required
  --project=P --region=R            where
  --source=ADDRESS                  files of rows that every worker reads: hf://datasets/OWNER/NAME,
                                    gs://BUCKET/FOLDER
  --out=gs://BUCKET/FOLDER          where the corpus goes
  --temp-location=gs://BUCKET/TMP   for Dataflow's own files
  --image=IMAGE                     built from launch/docker/Dockerfile.beam
Optional
  --name=codet5p-corpus             of the job
  --num-shards=256                  files of records in each split; one is held in memory at a time
  --max-workers=64 --machine-type=n2-standard-4 --disk-gb=100
  --service-account=A --subnetwork=S --no-public-ips
  --dry-run                         print the command
HELP
}

require_address() {  # a worker sees no folder of this machine
  [[ ${given[$1]} == *://* ]] || usage_error "--$1 is ${given[$1]}; Dataflow's workers see no folder \
of this machine: give an address, such as gs://BUCKET/FOLDER"
}

build_words() {  # sets build: codet5p's command line
  build=(codet5p corpus build
    --source="${given[source]}" --out="${given[out]}" --num_shards="${given[num-shards]}"
    --runner=DataflowRunner "${train_arguments[@]}" --
    --project="${given[project]}" --region="${given[region]}" --job_name="${given[name]}"
    --temp_location="${given[temp-location]}" --sdk_container_image="${given[image]}"
    --sdk_location=container --experiments=use_runner_v2
    --max_num_workers="${given[max-workers]}" --worker_machine_type="${given[machine-type]}"
    --disk_size_gb="${given[disk-gb]}")
  if [[ -n ${given[service-account]:-} ]]; then
    build+=("--service_account_email=${given[service-account]}")
  fi
  if [[ -n ${given[subnetwork]:-} ]]; then build+=("--subnetwork=${given[subnetwork]}"); fi
  if [[ -n ${given[no-public-ips]:-} ]]; then build+=(--no_use_public_ips); fi
}

read_flags "$@"
require project region source out temp-location image
default_values name=codet5p-corpus num-shards=256 max-workers=64 machine-type=n2-standard-4 disk-gb=100
require_name
require_counts num-shards max-workers disk-gb
for flag in source out temp-location; do require_address "$flag"; done
build_words
print_or_exec "codet5p is not on the PATH: . .venv/bin/activate" "${build[@]}"
