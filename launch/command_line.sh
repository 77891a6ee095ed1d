# shellcheck shell=bash
# What the launch scripts share: flags, the nearest of known names, quoting, and codet5p's command.
# Sourced by a script that sets SCRIPT, here, repository, VALUES and SWITCHES and defines usage(), and
# sets COMMAND where it runs another than codet5p train.

: "${SCRIPT:?}" "${VALUES:?}" "${SWITCHES:?}" "${here:?}" "${repository:?}"
: "${COMMAND:=codet5p train}"

declare -A given=()  # flag -> its value, 1 for a switch
gin_files=()
train_arguments=()   # what stands behind --, for $COMMAND
train_command=()

readonly EXIT_USAGE=2

say() { echo "$SCRIPT: $*" >&2; }

fail() {  # fail CODE MESSAGE...
  local code=$1
  shift
  say "$*"
  exit "$code"
}

usage_error() { fail "$EXIT_USAGE" "$* (see $SCRIPT --help)"; }

quoted() {  # the words as one line that a shell reads back as the same words
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

print_or_exec() {  # print_or_exec ABSENCE WORD...: the command with --dry-run, else it runs
  local absence=$1
  shift
  if [[ -n ${given[dry-run]:-} ]]; then
    quoted "$@"
    echo
    exit
  fi
  command -v "$1" >/dev/null || fail 5 "$absence"
  exec "$@"
}

edit_distance() {  # how many letters to change, add or leave out between two words
  local from=$1 to=$2 i j cost best
  local -a previous current
  for ((j = 0; j <= ${#to}; j++)); do previous[j]=$j; done
  for ((i = 1; i <= ${#from}; i++)); do
    current=("$i")
    for ((j = 1; j <= ${#to}; j++)); do
      cost=1
      if [[ ${from:i-1:1} == "${to:j-1:1}" ]]; then cost=0; fi
      best=$((previous[j-1] + cost))
      if ((previous[j] + 1 < best)); then best=$((previous[j] + 1)); fi
      if ((current[j-1] + 1 < best)); then best=$((current[j-1] + 1)); fi
      current[j]=$best
    done
    previous=("${current[@]}")
  done
  echo "${previous[${#to}]}"
}

nearest() {  # nearest WORD KNOWN...: the known word with the smallest edit distance
  local word=$1 known distance least=1000 found=
  shift
  for known in "$@"; do
    distance=$(edit_distance "$word" "$known")
    if ((distance < least)); then least=$distance found=$known; fi
  done
  echo "$found"
}

is_one_of() {  # is_one_of WORD "SEVERAL WORDS"
  [[ " ${2//$'\n'/ } " == *" $1 "* ]]
}

unknown_flag() {
  local -a known
  read -r -a known <<<"${VALUES//$'\n'/ } ${SWITCHES//$'\n'/ } help"
  usage_error "unknown flag --$1. Did you mean --$(nearest "$1" "${known[@]}")? \
What belongs to $COMMAND stands behind --"
}

read_flags() {  # fills given, gin_files and train_arguments
  local word name value
  while (($#)); do
    word=$1
    shift
    case $word in
      --) train_arguments=("$@"); return ;;
      -h | --help) usage; exit 0 ;;
      --*) ;;
      *) usage_error "unexpected argument '$word'; what belongs to $COMMAND stands behind --" ;;
    esac
    name=${word%%=*}
    name=${name#--}
    if is_one_of "$name" "$SWITCHES"; then
      [[ $word != *=* ]] || usage_error "--$name takes no value, got '$word'"
      given[$name]=1
      continue
    fi
    is_one_of "$name" "$VALUES" || unknown_flag "$name"
    if [[ $word == *=* ]]; then
      value=${word#*=}
    else
      (($#)) || usage_error "--$name needs a value"
      value=$1
      shift
    fi
    [[ -n $value ]] || usage_error "--$name is empty"
    if [[ $name == gin_file ]]; then gin_files+=("$value"); else given[$name]=$value; fi
  done
}

require() {  # require FLAG...: each must have been given
  local name
  for name in "$@"; do
    [[ -n ${given[$name]:-} ]] || usage_error "--$name is required"
  done
}

require_counts() {  # require_counts FLAG...: each must be a whole number
  local name
  for name in "$@"; do
    [[ ${given[$name]} =~ ^[0-9]+$ ]] ||
      usage_error "--$name must be a whole number, got '${given[$name]}'"
  done
}

require_slices() {  # --num-slices must be 1 or more
  [[ ${given[num-slices]} =~ ^[1-9][0-9]*$ ]] ||
    usage_error "--num-slices must be a whole number, 1 or more, got '${given[num-slices]}'"
}

require_name() {  # the cloud takes no other names, and says so late
  [[ ${given[name]} =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || usage_error "--name must be of small \
letters, digits and -, begin with a letter, not end with - and have 63 at most; got '${given[name]}'"
}

default_values() {  # default_values FLAG=VALUE...
  local pair
  for pair in "$@"; do
    if [[ -z ${given[${pair%%=*}]:-} ]]; then given[${pair%%=*}]=${pair#*=}; fi
  done
}

gin_file_words() {  # --recipe and --gin_file as codet5p's flags; each must exist
  local file known
  if [[ -n ${given[recipe]:-} ]]; then gin_files=("recipes/${given[recipe]}.gin" "${gin_files[@]}"); fi
  ((${#gin_files[@]})) || usage_error "give --recipe=NAME or --gin_file=PATH"
  for file in "${gin_files[@]}"; do
    if [[ ! -f $repository/gin/$file && ! -f $repository/$file ]]; then
      mapfile -t known < <(cd "$repository/gin" && find . -name '*.gin' -printf '%P\n' | sort)
      usage_error "no gin file $file. Did you mean $(nearest "$file" "${known[@]}")?"
    fi
    train_command+=("--gin_file=$file")
  done
}

require_workers_folder() {  # codet5p reads and writes folders; gs:// would become a folder "gs:"
  local flag=$1
  [[ ${given[$flag]} != *://* ]] || usage_error "--$flag is ${given[$flag]}, and codet5p reads and \
writes folders: mount the bucket (launch/mount_bucket.sh) and give the folder"
  [[ ${given[$flag]} == /* ]] || usage_error "--$flag is ${given[$flag]}, which on a worker lies in \
the code's folder and is lost with it: give an absolute path, of storage that is mounted there"
}

build_train_command() {  # build_train_command PROGRAM...: fills train_command
  local flag
  train_command=("$@" train --multihost)  # JAX asks the TPU for the other hosts
  gin_file_words
  for flag in model-dir corpus-dir tokenizer-dir; do
    require_workers_folder "$flag"
  done
  train_command+=(
    "--gin.MODEL_DIR=${given[model-dir]}"
    "--gin.CORPUS_DIR=${given[corpus-dir]}"
    "--gin.TOKENIZER_DIR=${given[tokenizer-dir]}"
    "${train_arguments[@]}"
  )
}

tpu_generation() {  # v4-32 -> v4, v5litepod-16 -> v5e, v5p-16 -> v5p, v6e-16 -> v6e
  case $1 in
    v4-*) echo v4 ;;
    v5litepod-* | v5e-*) echo v5e ;;
    v5p-*) echo v5p ;;
    v6e-*) echo v6e ;;
    *) return 1 ;;
  esac
}

libtpu_arguments() {  # libtpu_arguments GENERATION: the preset as one line
  local LIBTPU_FLAGS=()
  # shellcheck source=/dev/null
  source "$here/libtpu_args/$1.sh"
  echo "${LIBTPU_FLAGS[*]}"
}
