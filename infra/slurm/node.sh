#!/usr/bin/env bash
# node.sh start|crash NODE: a node comes up, or is gone at once with all that runs on it.
set -euo pipefail
. "$(dirname "$0")/env.sh"
node=${2:?node.sh start|crash NODE}

# The first process of the node, which reaps what others leave. Everything on the node ends with it.
# shellcheck disable=SC2016
first_process='
    hostname "$1"
    mount --bind "$2/hosts" /etc/hosts
    mount --bind "$2/resolv.conf" /etc/resolv.conf
    mount -t tmpfs tmpfs /dev/shm
    slurmd -f "$2/slurm.conf" -N "$1" && while :; do sleep 3600 & wait $!; done'

is_empty() { [ -z "$(ip netns pids "$name-$node")" ]; }

case $1 in
start)
    mkdir -p "$state/spool/$node"
    # nsenter: `ip netns exec` would hide /sys/fs/cgroup, without which slurmd does not start
    setsid nsenter --net="/run/netns/$name-$node" \
        unshare --uts --mount --pid --fork --kill-child --mount-proc \
        bash -c "$first_process" node "$node" "$state" >>"$state/$node.log" 2>&1 </dev/null &
    ;;
crash)
    # some are gone before their turn, with the first process
    ip netns pids "$name-$node" | xargs -r kill -KILL 2>/dev/null || true
    until_true 10 is_empty
    ;;
*)
    echo "node.sh start|crash NODE, not $1" >&2
    exit 2
    ;;
esac
