#!/usr/bin/env bash
# Bring the servers that tests start: PostgreSQL and (volumes.sh) QEMU's tools from the system's packages, versitygw and Dolt built by Go into the
# cache. (SeaweedFS and doltlite are wheels among the requirements.) Under CI=true a missing one is a failure, else tests print NOT RUN.
set -euo pipefail
cache=${PLAIT_CACHE:-$HOME/.cache/plait}
pin() { sed -n "/^\[$1\]/,/^\[/s/^$2 = \"\([^\"]*\)\".*/\1/p" engines.toml; }

if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && ! command -v postgres >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
  else
    echo "NOT RUN without PostgreSQL:   sudo apt-get install postgresql" >&2
  fi
fi
bash scripts/volumes.sh
drivers=()  # What block volumes in reflinked files and in Ceph are tested with.
PATH=$PATH:/usr/sbin:/sbin command -v mkfs.xfs >/dev/null || drivers+=("$(pin reflinks packages)")
if ! command -v ceph-osd >/dev/null || ! command -v rbd >/dev/null || ! compgen -G '/usr/lib/*/qemu/block-rbd.so' >/dev/null \
  || ! compgen -G '/usr/lib/python3/dist-packages/rbd.*.so' >/dev/null; then
  drivers+=("$(pin ceph packages)")
fi
if [ ${#drivers[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # shellcheck disable=SC2068
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${drivers[@]} >/dev/null
  else
    echo "NOT RUN without root and these:   sudo apt-get install ${drivers[*]}" >&2
  fi
fi
if [ ! -x "$cache/bin/versitygw" ]; then
  if command -v go >/dev/null; then
    echo "Building versitygw into $cache/bin (once)"
    mkdir -p "$cache/bin"
    GOBIN="$cache/bin" go install "$(pin versitygw module)@$(pin versitygw version)" 2>/dev/null
  else
    echo "NOT RUN without Go, which builds versitygw:   install Go 1.24 or later" >&2
  fi
fi
if [ ! -x "$cache/bin/dolt" ]; then
  if command -v go >/dev/null; then
    echo "Building Dolt into $cache/bin (once, some minutes)"
    mkdir -p "$cache/bin"
    # shellcheck disable=SC2046
    GOBIN="$cache/bin" go install $(pin dolt flags) -ldflags='-s -w' "$(pin dolt module)@$(pin dolt version)" 2>/dev/null
  else
    echo "NOT RUN without Go, which builds Dolt:   install Go 1.25 or later" >&2
  fi
fi
