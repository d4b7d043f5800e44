#!/usr/bin/env bash
# Bring what block volumes need, from the system's packages: as root; else say how, and go on without volumes.
set -euo pipefail
pin() { sed -n "/^\[$1\]/,/^\[/s/^$2 = \"\([^\"]*\)\".*/\1/p" engines.toml; }

missing=()
for program in qemu-storage-daemon qemu-img mke2fs fuse2fs fusermount3 nbdcopy; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
  packages="$(pin qemu packages) $(pin filesystems packages) $(pin nbd packages)"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  else
    echo "No block volumes without ${missing[*]}:   sudo apt-get install $packages" >&2
  fi
fi
