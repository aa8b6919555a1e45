#!/usr/bin/env bash
# Stops what up.sh started, by process number, and takes its network away. It needs no record of
# what was started, nor how many nodes, so it also clears up after a cluster whose folder is gone.
# Logs stay: `rm -r build/slurm` forgets them.
set -euo pipefail
. "$(dirname "$0")/env.sh"

has_ended() { ! grep -Eq '^State:[[:space:]]+[^ZX]' "/proc/$1/status" 2>/dev/null; }

for namespace in "/run/netns/$name"-n*; do
    [ -e "$namespace" ] || continue
    node=${namespace##*/"$name"-}
    infra/slurm/node.sh crash "$node"
    ip netns delete "$name-$node"
    ip link delete "$name-$node" 2>/dev/null || true # mostly gone with the other end
done
for pid in $(pidof slurmctld munged || true); do
    grep -qaF "$state/" "/proc/$pid/cmdline" 2>/dev/null || continue # of another cluster
    kill -TERM "$pid" 2>/dev/null || continue
    until_true 10 has_ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
done
ip link delete "$bridge" 2>/dev/null || true
