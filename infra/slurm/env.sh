# Settings and functions that the scripts of this folder share.
#
#   SIGMA_SLURM_STATE   folder of the cluster's state and logs   (default: build/slurm)
#   SIGMA_SLURM_NODES   how many nodes, n1, n2, ...              (default: 4)
#   SIGMA_SLURM_NET     first three numbers of its addresses     (default: 10.214.0)
#   SIGMA_SLURM_NAME    at most 9 letters, to which the names of its network go (default: sigma)
#   SIGMA_SLURM_PORT    of its controller                        (default: 6817)
#
# Clusters that differ in all but the number of nodes stand side by side.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p "${SIGMA_SLURM_STATE:=build/slurm}"
state=$(cd "$SIGMA_SLURM_STATE" && pwd)
nodes=$(seq -f 'n%g' "${SIGMA_SLURM_NODES:-4}")
net=${SIGMA_SLURM_NET:-10.214.0}
name=${SIGMA_SLURM_NAME:-sigma}
bridge=$name-slurm # nodes' links and network namespaces are called sigma-n1, sigma-n2, ...
export SLURM_CONF=$state/slurm.conf

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}
