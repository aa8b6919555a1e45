#!/usr/bin/env bash
# A private SLURM cluster for tests: a controller and its nodes on this machine. Needs root on
# Debian 12, whose packages it installs where they are missing; no systemd, no database.
# Prints the variables that SLURM's commands and the tests need:
#
#   eval "$(infra/slurm/up.sh)" && make test-slow; infra/slurm/down.sh
#
# Each node has a network, a host name, processes and /dev/shm of its own, and shares the file
# system with the others: `node.sh crash n2` is the end that a power cut would be. What an earlier
# cluster left behind is taken away first. Settings: see env.sh.
set -Eeuo pipefail
. "$(dirname "$0")/env.sh"

fail() {
    trap - ERR
    echo "slurm: $*; see the logs in $state" >&2
    infra/slurm/down.sh
    exit 1
}

trap 'fail "a command failed"' ERR

install_packages() {
    local policy=/usr/sbin/policy-rc.d is_ours=false
    type ip munged sbatch scancel sinfo slurmctld slurmd squeue srun >/dev/null 2>&1 && return
    if [ ! -e $policy ]; then # without it the packages would start services of their own
        is_ours=true
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    {
        apt-get -q update || true # lists may be old or, on a new machine, absent
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
            iproute2 munge slurm-client slurmctld slurmd
    } >"$state/install.log" 2>&1 || fail "packages cannot be installed"
    ! $is_ours || rm $policy
}

make_network() {
    local number=10 node
    ip link add "$bridge" type bridge
    ip address add "$net.1/24" dev "$bridge"
    ip link set "$bridge" up
    : >"$state/resolv.conf" # a name server that cannot be reached costs seconds for each name
    printf '127.0.0.1 localhost\n%s.1 %s controller\n' "$net" "$(hostname -s)" >"$state/hosts"
    for node in $nodes; do
        number=$((number + 1))
        echo "$net.$number $node" >>"$state/hosts"
        ip netns add "$name-$node"
        ip link add "$name-$node" type veth peer name eth0 netns "$name-$node"
        ip link set "$name-$node" master "$bridge" up
        ip -n "$name-$node" address add "$net.$number/24" dev eth0
        ip -n "$name-$node" link set eth0 up
        ip -n "$name-$node" link set lo up
    done
}

write_conf() {
    local count first_job
    count=$(wc -w <<<"$nodes")
    # Numbers of jobs go on from the clock: results of submitit lie under them.
    first_job=$(($(date +%s) % 60000000))
    sed -e "s|@STATE@|$state|; s|@HOST@|$(hostname -s)|; s|@NET@|$net|; s|@COUNT@|$count|" \
        -e "s|@PORT@|${SIGMA_SLURM_PORT:-6817}|; s|@LAST@|$((10 + count))|" \
        -e "s|@FIRST_JOB@|$first_job|" \
        infra/slurm/slurm.conf.in >"$SLURM_CONF"
}

are_idle() { [ "$(sinfo -h -o '%t %D' 2>/dev/null)" = "idle $(wc -w <<<"$nodes")" ]; }

[ "$(id -u)" = 0 ] || fail "needs root, for network namespaces"
infra/slurm/down.sh
install_packages
rm -rf "$state"/{jobs,spool,*.log}
mkdir -p "$state/jobs"
[ -s "$state/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$state/munge.key")
# --force: the checkout may lie in a folder that others can write to
munged --force --key-file="$state/munge.key" --socket="$state/munge.sock" \
    --pid-file="$state/munged.pid" --log-file="$state/munged.log" \
    --seed-file="$state/munge.seed" 2>"$state/start.log" || fail "munged does not start"
make_network
write_conf
slurmctld -f "$SLURM_CONF" 2>>"$state/start.log" || fail "the controller does not start"
# A node that finds no controller waits seconds before it asks again.
until_true 20 sinfo -h >/dev/null 2>&1 || fail "the controller is silent"
for node in $nodes; do infra/slurm/node.sh start "$node"; done
until_true 60 are_idle || fail "nodes are missing"

cat <<EXPORTS
export SIGMA_SLURM_STATE=$state
export SIGMA_SLURM_NAME=$name
export SLURM_CONF=$SLURM_CONF
export PATH=$PWD/infra/slurm/bin:\$PATH
EXPORTS
