#!/usr/bin/env bash
# Run one stage of the tests and note how long it took:  stage.sh NAME COMMAND…   stage.sh --summary
set -euo pipefail
times=.stage-times
if [ "$1" = --summary ]; then
  echo "stage times:" && cat "$times" && rm -f "$times"
  exit 0
fi
name=$1
shift
began=$(date +%s)
echo "== $name =="
status=0
"$@" || status=$?
printf '  %-8s %4d s\n' "$name" $(($(date +%s) - began)) | tee -a "$times"
exit $status
