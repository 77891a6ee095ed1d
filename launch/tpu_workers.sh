# shellcheck shell=bash
# The training on the workers of a slice: state, shipping, set-up, start, log. Sourced by
# launch/tpu_vm.sh behind launch/queued_resource.sh; launch/worker.sh is the other side.
# shellcheck disable=SC2154,SC2034

readonly SETUP_SECONDS=3600
readonly STOPPED_BY_SIGNAL=143  # codet5p saved a checkpoint behind SIGTERM
readonly LOST_PROCESS=75        # codet5p lost another process of the run; the fault is not its own

training=absent code=0 started=- their_revision=- their_fingerprint=-

worker_status() {  # sets training: see note_worker; unreachable when gcloud fails
  local answer line words
  # shellcheck disable=SC2016  # the workers' HOME
  if ! answer=$(on_workers "$CALL_SECONDS" all "if [ -f ~/codet5p_runs/worker.sh ]; then bash \
~/codet5p_runs/worker.sh status ${given[run-id]}; else echo codet5p_status - - - - absent; fi" \
    2>"$scratch/errors"); then
    training=unreachable
    return
  fi
  training=unreachable
  while read -r line; do
    read -r -a words <<<"$line"
    [[ ${words[0]:-} == codet5p_status ]] || continue
    started=${words[2]} their_revision=${words[3]} their_fingerprint=${words[4]}
    note_worker "${words[5]}" "${words[6]:-}"
  done <<<"$answer"
}

note_worker() {  # a slice is as the worker that counts most
  local seen=$1 rank
  # failed is below gone and stopped: a machine that reboots takes the others down with it.
  local -A ranks=([unreachable]=0 [finished]=1 [running]=2 [deserted]=3 [failed]=4 [absent]=5 [gone]=6
    [stopped]=7)
  if [[ $seen == exited ]]; then
    case $2 in
      0) seen=finished ;;
      "$STOPPED_BY_SIGNAL") seen=stopped ;;
      "$LOST_PROCESS") seen=deserted ;;
      *) seen=failed code=$2 ;;
    esac
  fi
  rank=${ranks[$seen]:-0}
  if ((rank > ${ranks[$training]})); then training=$seen; fi
}

ship() {
  local archive=codet5p_jax-$revision.tar.gz
  local file=${given[log-dir]}/$archive
  say "shipping revision $revision"
  limited "$CALL_SECONDS" git -C "$repository" archive --format=tar.gz -o "$file" HEAD &&
    cloud "$CALL_SECONDS" queued-resources scp "$file" "${given[name]}:$archive" \
      --node=all --worker=all "${ssh_flags[@]}"
}

set_up() {
  say "installing on all workers"
  on_workers "$SETUP_SECONDS" all "mkdir -p ~/codet5p_jax-$revision && tar -xzf \
~/codet5p_jax-$revision.tar.gz -C ~/codet5p_jax-$revision && cd ~/codet5p_jax-$revision && \
bash launch/worker.sh setup $(quoted "$revision" "${given[setup-command]:-}")"
}

start_training() {
  local prefix=
  started=$(date -u +%Y%m%dT%H%M%S.%3NZ)  # names the log: no two starts share it
  if [[ -n ${given[allow-boot-disk]:-} ]]; then prefix="ALLOW_BOOT_DISK=1 "; fi
  say "starting run ${given[run-id]}"
  on_workers "$CALL_SECONDS" all "bash ~/codet5p_runs/worker.sh stop ${given[run-id]} && cd \
~/codet5p_jax-$revision && ${prefix}bash launch/worker.sh start $(quoted "${given[run-id]}" \
    "$started" "$revision" "$fingerprint" "${train_command[@]}")"
}

attach_or_start() {  # sets outcome: watch, lost or crashed
  outcome=watch
  worker_status
  if [[ $training == running ]]; then
    [[ $their_fingerprint == "$fingerprint" ]] || usage_error "run ${given[run-id]} is going on with \
other arguments; give the same ones, or delete ${given[name]} first"
    [[ $their_revision == "$revision" ]] || say "the training is of revision $their_revision"
    say "the training is running; showing its log"
    return
  fi
  if [[ $training == finished ]]; then return; fi
  if ship && set_up && start_training; then return; fi
  if resource_is_lost; then outcome=lost; else outcome=crashed code=setup; fi
}

resource_is_lost() {  # preempted, or deleted by someone else (note_hand)
  queue_state
  case $state in
    ACTIVE)
      node_states
      [[ $nodes == LOST ]] ;;
    SUSPENDING | SUSPENDED | DELETING | ABSENT) note_hand ;;
    FAILED) ;;
    *) return 1 ;;
  esac
}

show_log() {  # appends what is new to the local log and shows it; false when nothing is
  local file before
  [[ $started != - ]] || return 1
  file=${given[log-dir]}/$started.log
  touch "$file"
  before=$(stat -c %s "$file")
  on_workers "$CALL_SECONDS" first "bash ~/codet5p_runs/worker.sh log ${given[run-id]} $before" \
    2>"$scratch/errors" | tee -a "$file" || true
  (($(stat -c %s "$file") > before))
}
