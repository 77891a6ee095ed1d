#!/usr/bin/env bash
# Runs tests/huggingface in transformers 4.46 and in the newest 5, each in an environment of its own:
# .venv-hf446 and .venv-hf5, made here with pip, which knows the machine's index by itself.
# The exports that they load are made in .venv; `make setup` comes first.
# Further words go to pytest: launch/test_hf.sh -k bimodal
set -euo pipefail
if [[ ${1:-} == -h || ${1:-} == --help ]]; then sed -n '2,5s/^# //p' "$0"; exit; fi
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || { echo "test-hf: there is no .venv; run make setup first" >&2; exit 1; }
exports=$(mktemp -d)
trap 'rm -rf "$exports"' EXIT
.venv/bin/python -m tests.huggingface.reference_exports "$exports"

failed=0
for environment in "hf446 transformers==4.46.*" "hf5 transformers>=5,<6"; do
  read -r name requirement <<< "$environment"
  [ -x ".venv-$name/bin/python" ] || .venv/bin/python -m venv --without-pip ".venv-$name"
  .venv/bin/python -m pip --python ".venv-$name/bin/python" install -q --upgrade \
    --disable-pip-version-check "$requirement" 'torch>=2.6,<=2.13.0' 'numpy<3' pytest 2>&1 |
    sed '/^WARNING: Location/d'
  ".venv-$name/bin/python" -c 'import torch, transformers
print(f"test-hf: transformers {transformers.__version__}, torch {torch.__version__}")'
  HF_HUB_OFFLINE=1 CODET5P_EXPORTS="$exports" ".venv-$name/bin/python" -m pytest -q \
    -c tests/huggingface/pytest.ini tests/huggingface "$@" || failed=1
done
exit "$failed"
