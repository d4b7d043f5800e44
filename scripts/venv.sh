#!/usr/bin/env bash
# Make the virtual environment: hashed requirements first, then plait's own packages in place.
set -euo pipefail
venv=$1
shift
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "plait needs Python 3.11 or later; $python is $("$python" --version 2>&1)" >&2
  exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
  else
    echo "This Python lacks venv. Install it, then run make again:   sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing into $venv (once; about 1 GB)"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
editable=()
for package in "$@"; do editable+=(-e "./$package"); done
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation "${editable[@]}"
