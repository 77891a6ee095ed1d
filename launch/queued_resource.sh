# shellcheck shell=bash
# A queued resource in gcloud's terms: request, states, deletion. Sourced by launch/tpu_vm.sh, whose
# flags, exit codes and scratch folder it uses.
# shellcheck disable=SC2154,SC2034

readonly TRIES=5           # of a gcloud call that fails for no reason of ours
readonly CALL_SECONDS=900  # an upper bound of any gcloud call

limited() {  # limited SECONDS COMMAND...: runs it within a time, or prints it
  local seconds=$1
  shift
  if [[ -n ${given[dry-run]:-} ]]; then
    quoted "$@" >&3
    echo >&3
  else
    timeout --foreground --kill-after=30 "$seconds" "$@" </dev/null 9>&-
  fi
}

cloud() {  # cloud SECONDS [alpha] GROUP VERB WORD...
  local seconds=$1 track=()
  shift
  if [[ $1 == alpha ]]; then track=(alpha); shift; fi
  limited "$seconds" gcloud "${track[@]}" compute tpus "$@" \
    --project="${given[project]}" --zone="${given[zone]}"
}

ssh_flags=(--quiet)

on_workers() {  # on_workers SECONDS all|first COMMAND
  local node=all worker=all
  if [[ $2 == first ]]; then node=0 worker=0; fi
  cloud "$1" queued-resources ssh "${given[name]}" --node="$node" --worker="$worker" \
    "${ssh_flags[@]}" --command="$3"
}

pause() { sleep "${given[poll-seconds]}"; }

state=ABSENT initiator=''

queue_state() {  # sets state and initiator; ABSENT when there is no such resource
  local try answer type
  for ((try = 1; try <= TRIES; try++)); do
    if answer=$(cloud "$CALL_SECONDS" queued-resources describe "${given[name]}" \
      "--format=csv[no-heading](state.state,state.stateInitiator,tpu.nodeSpec[0].node.acceleratorType)" \
      2>"$scratch/errors"); then
      IFS=, read -r state initiator type <<<"$answer" || true
      [[ -z $type || $type == "${given[accelerator-type]}" ]] || usage_error "the queued resource \
${given[name]} is a $type, not ${given[accelerator-type]}; give another --name"
      return 0
    fi
    if grep -qiE 'NOT_FOUND|not found' "$scratch/errors"; then state=ABSENT initiator=''; return 0; fi
    say "gcloud could not describe ${given[name]} ($try of $TRIES): $(tail -n 1 "$scratch/errors")"
    pause
  done
  fail "$EXIT_CLOUD" "gcloud fails; nothing was changed. Run again when it works"
}

node_names() {
  local slice
  if ((given[num-slices] == 1)); then echo "${given[name]}"; return; fi
  for ((slice = 0; slice < given[num-slices]; slice++)); do echo "${given[name]}-$slice"; done
}

nodes=READY

node_states() {  # sets nodes: READY, CHANGING (wait) or LOST
  local name answer
  nodes=READY
  while read -r name; do
    answer=$(cloud "$CALL_SECONDS" tpu-vm describe "$name" "--format=value(state)" \
      2>"$scratch/errors") || answer=UNREADABLE
    if grep -qiE 'NOT_FOUND|not found' "$scratch/errors"; then answer=ABSENT; fi
    case $answer in
      READY) ;;
      PREEMPTED | TERMINATED | STOPPED | STOPPING | DELETING | HIDING | HIDDEN | ABSENT)
        say "node $name is $answer"
        nodes=LOST
        return ;;
      *) nodes=CHANGING ;;
    esac
  done < <(node_names)
}

tier_flags() {  # flags of the chosen tier, one a line
  if [[ -n ${given[flex-start]:-} ]]; then
    echo "--provisioning-model=flex-start"
    echo "--max-run-duration=${given[max-run-duration]}"
  fi
  local tier
  for tier in spot reserved guaranteed best-effort; do
    if [[ -n ${given[$tier]:-} ]]; then echo "--$tier"; fi
  done
}

create_words() {  # sets create: the words behind `cloud SECONDS`
  local flag
  create=()
  # These are in the alpha commands only. --spot is not among them on purpose: alpha's sets the
  # provisioning model back to standard (gcloud 528).
  if [[ -n ${given[best-effort]:-}${given[flex-start]:-}${given[reservation]:-} ]]; then create=(alpha); fi
  create+=(queued-resources create "${given[name]}"
    --accelerator-type="${given[accelerator-type]}" --runtime-version="${given[runtime-version]}")
  if ((given[num-slices] == 1)); then
    create+=(--node-id="${given[name]}")
  else
    create+=(--node-count="${given[num-slices]}" --node-prefix="${given[name]}")
  fi
  mapfile -t -O "${#create[@]}" create < <(tier_flags)
  for flag in reservation valid-until-duration service-account network subnetwork; do
    if [[ -n ${given[$flag]:-} ]]; then create+=("--$flag=${given[$flag]}"); fi
  done
  if [[ -n ${given[internal-ips]:-} ]]; then create+=(--internal-ips); fi
}

create_resource() {
  local create
  create_words
  say "requesting ${given[accelerator-type]} as ${given[name]}"
  cloud "$CALL_SECONDS" "${create[@]}" && return
  queue_state  # the request may have been taken although the answer was lost
  [[ $state != ABSENT ]] || fail "$EXIT_CLOUD" "gcloud did not take the request (above): quota, zone, \
accelerator type and runtime version are the usual reasons; launch/README.md has a check-list"
}

delete_resource() {
  local deadline=$((SECONDS + CALL_SECONDS))
  say "deleting ${given[name]}"
  cloud "$CALL_SECONDS" queued-resources delete "${given[name]}" --force --quiet || true
  if [[ -n ${given[dry-run]:-} ]]; then return; fi
  while queue_state; [[ $state != ABSENT ]]; do
    ((SECONDS < deadline)) || fail "$EXIT_CLOUD" "${given[name]} is still $state and may cost money. \
Delete it: $(quoted gcloud compute tpus queued-resources delete "${given[name]}" --force \
      --project="${given[project]}" --zone="${given[zone]}")"
    pause
  done
}

ensure_resource() {
  queue_state
  case $state in
    ABSENT) create_resource ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING)
      say "found ${given[name]}, $state: replacing it"
      delete_resource
      create_resource ;;
    *) say "found ${given[name]}, $state: going on with it" ;;
  esac
}

give_up_waiting() {
  say "${given[name]} was not ready after ${given[max-wait-seconds]} s (last: $state, nodes $nodes)"
  [[ -n ${given[keep]:-} ]] || delete_resource  # granted later, it would cost with nobody there
  exit "$EXIT_NOT_GRANTED"
}

request_failed() {
  cloud "$CALL_SECONDS" queued-resources describe "${given[name]}" "--format=yaml(state)" >&2 || true
  fail "$EXIT_NOT_GRANTED" "the request failed (above): no capacity within --valid-until-duration, or \
a fault in the request. Nothing runs; the next start replaces it"
}

wait_until_ready() {  # sets outcome: ready or lost
  local deadline=$((SECONDS + given[max-wait-seconds])) shown=''
  while :; do
    queue_state
    if [[ $state == ABSENT && -z $shown ]]; then pause_before "$deadline"; continue; fi  # not yet listed
    if [[ $state != "$shown" ]]; then say "${given[name]} is $state"; shown=$state; fi
    case $state in
      ACTIVE)
        node_states
        case $nodes in
          READY) outcome=ready; return ;;
          LOST) outcome=lost; return ;;
        esac ;;
      FAILED) request_failed ;;
      SUSPENDING | SUSPENDED | DELETING | ABSENT)
        note_hand
        outcome=lost
        return ;;
    esac
    pause_before "$deadline"
  done
}

pause_before() {  # pause_before DEADLINE
  ((SECONDS < $1)) || give_up_waiting
  pause
}

note_hand() {  # a preemption leaves a suspended resource; a deleted one was deleted by someone
  case $state in
    DELETING | ABSENT) by_hand=1 ;;
    *) if [[ $initiator == USER ]]; then by_hand=1; fi ;;
  esac
}
