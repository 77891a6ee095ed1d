#!/usr/bin/env bash
# Mounts a Cloud Storage bucket as a folder with gcsfuse; does nothing where it is mounted already.
# For launch/tpu_vm.sh --setup-command='bash launch/mount_bucket.sh BUCKET FOLDER'.
#
# A checkpoint is committed by renaming its folder. A plain bucket renames file by file, a bucket
# with a hierarchical namespace in one step: create it with
#   gcloud storage buckets create gs://BUCKET --location=REGION \
#     --uniform-bucket-level-access --enable-hierarchical-namespace
set -euo pipefail
if [[ ${1:-} == -h || ${1:-} == --help ]]; then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit; fi
[ $# -eq 2 ] || { echo "usage: launch/mount_bucket.sh BUCKET FOLDER" >&2; exit 2; }
bucket=${1#gs://} folder=$2

install_gcsfuse() {  # Google's own apt repository
  local key=/usr/share/keyrings/cloud.google.asc
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -q
  sudo apt-get install -q -y gcsfuse
}

if mountpoint -q "$folder"; then exit 0; fi
command -v gcsfuse >/dev/null || install_gcsfuse
sudo mkdir -p "$folder"
sudo chown "$(id -u):$(id -g)" "$folder"
gcsfuse --implicit-dirs "$bucket" "$folder"
