#!/usr/bin/env bash
# Stops what up.sh started. Its state stays: up.sh brings it back, `rm -r build/s3` forgets it.
set -euo pipefail
cd "$(dirname "$0")/../.."
state=$(mkdir -p "${SIGMA_S3_STATE:=build/s3}" && cd "$SIGMA_S3_STATE" && pwd)
for name in gateway osd mon; do
    [ -s "$state/$name.pid" ] || continue
    pid=$(<"$state/$name.pid")
    rm "$state/$name.pid"
    # the number may belong to another process by now
    grep -qaF "$state/ceph.conf" "/proc/$pid/cmdline" 2>/dev/null || continue
    kill -TERM "$pid" 2>/dev/null || continue
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || continue 2
        sleep 0.1
    done
    echo "s3: $name ($pid) had to be killed" >&2
    kill -KILL "$pid" 2>/dev/null || true
done
