#!/usr/bin/env bash
# A private S3 server for tests: a one-node Ceph (monitor, one disk in memory, gateway) on loopback.
# No root, no systemd, no container. Prints the variables that the tests read:
#
#   eval "$(infra/s3/up.sh)" && make test-slow; infra/s3/down.sh
#
#   SIGMA_S3_STATE  folder of its state and logs          (default: build/s3)
#   SIGMA_S3_PORT   S3 port; the 40 after it are used too (default: 7480)
#
# Without `radosgw` on the PATH, Debian's packages are unpacked into the state folder (200 MB) and
# nothing is installed. Objects live in memory: small tests only.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${SIGMA_S3_STATE:=build/s3}"
state=$(cd "$SIGMA_S3_STATE" && pwd)
port=${SIGMA_S3_PORT:-7480}
access_key=sigma-test secret_key=sigma-test-secret # opens nothing but this server
export CEPH_CONF=$state/ceph.conf

fail() {
    echo "s3: $*; see $state/*.log" >&2
    SIGMA_S3_STATE=$state infra/s3/down.sh
    exit 1
}

unpack_ceph() {
    mkdir -p "$state/packages"
    (
        cd "$state/packages"
        apt-get -q update || true # lists may be old or, on a new machine, absent
        # what an installation would add on this machine
        apt-get -s install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common |
            awk '/^Inst/ {print $2}' | xargs apt-get -q download
        for package in *.deb; do dpkg -x "$package" "$state/ceph"; done
    ) >"$state/unpack.log" 2>&1 || fail "Ceph cannot be fetched"
    rm -r "$state/packages"
}

write_conf() {
    cat >"$CEPH_CONF" <<CONF
[global]
fsid = $(</proc/sys/kernel/random/uuid)
mon_host = v2:127.0.0.1:$((port + 1))/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = $((port + 2))
ms_bind_port_max = $((port + 40))
# loopback and one user: no keyrings; the gateway's monitor client must then be told not to encrypt
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = $state
crash_dir = $state
admin_socket =
log_file = $state/\$type.\$id.log
mon_cluster_log_file = $state/cluster.log
${libraries:+plugin_dir = $libraries/ceph}
${libraries:+erasure_code_dir = $libraries/ceph/erasure-code}
${libraries:+osd_class_dir = $libraries/rados-classes}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
# a start of two seconds instead of fifteen: map changes are not gathered
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_data = $state/mon
osd_data = $state/osd
osd_objectstore = memstore
memstore_device_bytes = $((4 << 30))
# memory is written to osd_data at a slow shutdown only
osd_fast_shutdown = false
# without tcp_nodelay each small get takes 45 ms
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
CONF
}

is_running() { # name
    [ -s "$state/$1.pid" ] &&
        grep -qaF "$CEPH_CONF" "/proc/$(<"$state/$1.pid")/cmdline" 2>/dev/null
}

start() { # name command...
    local name=$1
    shift
    is_running "$name" && return
    setsid "$@" -c "$CEPH_CONF" -f >>"$state/$name.log" 2>&1 </dev/null &
    echo $! >"$state/$name.pid"
}

answers() { curl -s --max-time 5 "http://127.0.0.1:$port/" 2>/dev/null | grep -q ListAllMyBuckets; }

libraries=
if ! command -v radosgw >/dev/null; then
    [ -e "$state/ceph/usr/bin/radosgw" ] || unpack_ceph
    libraries=$state/ceph/usr/lib/x86_64-linux-gnu
    export PATH=$state/ceph/usr/bin:$PATH PYTHONPATH=$state/ceph/usr/lib/python3/dist-packages
    export LD_LIBRARY_PATH=$libraries:$libraries/ceph:$state/ceph/lib/x86_64-linux-gnu
fi

is_new=false
if [ ! -e "$state/ready" ]; then
    is_new=true
    rm -rf "$state/mon" "$state/osd" # of a first start that was interrupted
    mkdir "$state/mon" "$state/osd"
    write_conf
    monmaptool --create --clobber --fsid "$(awk '/^fsid/{print $3}' "$CEPH_CONF")" \
        --addv 0 "[v2:127.0.0.1:$((port + 1))/0]" "$state/monmap" >"$state/first.log" 2>&1
    ceph-mon --mkfs -i 0 --monmap "$state/monmap" >>"$state/first.log" 2>&1 || fail "no monitor"
fi
start mon ceph-mon -i 0
if $is_new; then
    osd_id=$(</proc/sys/kernel/random/uuid)
    timeout 60 ceph osd new "$osd_id" >>"$state/first.log" 2>&1 || fail "the monitor is silent"
    ceph-osd --mkfs -i 0 --osd-uuid "$osd_id" >>"$state/first.log" 2>&1 || fail "no disk"
fi
start osd ceph-osd -i 0
if $is_new; then
    timeout 120 radosgw-admin user create --uid=sigma --display-name=sigma \
        --access-key=$access_key --secret-key=$secret_key >>"$state/first.log" 2>&1 ||
        fail "no user"
    touch "$state/ready"
fi
start gateway radosgw -n client.admin
for _ in $(seq 600); do
    answers && break
    is_running gateway || fail "the gateway ended"
    sleep 0.1
done
answers || fail "the gateway is silent"

cat <<EXPORTS
export SIGMA_TEST_S3_ENDPOINT=http://127.0.0.1:$port
export SIGMA_TEST_S3_ACCESS_KEY=$access_key
export SIGMA_TEST_S3_SECRET_KEY=$secret_key
EXPORTS
