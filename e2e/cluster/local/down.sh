#!/usr/bin/env bash
# Takes the cluster down: pods, processes, mounts, network, cgroups and the state directory. Its images stay for the next one.
# It may be half up, or not at all.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -d "$STATE" ] || exit 0
mkdir -p "$STATE"/{run,log}
exec 2>>"$STATE/log/down.log"

for p in kubelet kube-proxy kube-controller-manager kube-scheduler; do stop $p; done
# containerd's end would leave the pods running
ctr_() { timeout 20 ctr -a "$CRI" -n k8s.io "$@"; }
if alive containerd; then
  for c in $(ctr_ tasks ls -q); do ctr_ tasks kill -a -s 9 "$c"; ctr_ tasks delete -f "$c"; done >/dev/null
  for c in $(ctr_ containers ls -q); do ctr_ containers delete "$c"; done >/dev/null
fi
stop kube-apiserver 5; stop etcd; stop containerd
# what is left of a pod is in our cgroup
for f in $(find /sys/fs/cgroup/{pids,}$CGROUP_ROOT -name cgroup.procs); do while read -r p; do kill -9 "$p"; done <"$f"; done

[ ! -x "$KUBE" ] || "$KUBE" kube-proxy --cleanup
for c in INPUT OUTPUT; do iptables -w -D $c -j KUBE-FIREWALL; done
for t in filter nat mangle; do
  for c in KUBE-FIREWALL KUBE-KUBELET-CANARY KUBE-IPTABLES-HINT KUBE-PROXY-CANARY; do iptables -w -t $t -F $c && iptables -w -t $t -X $c; done
done
[ -z "$OUT_IF" ] || iptables -w -D FORWARD -s $POD_CIDR -o "$OUT_IF" -j REJECT
ip link del k8spods; ip link del k8snode
[ ! -f "$STATE/sysctls" ] || sysctl -qp "$STATE/sysctls"

mounts() { awk -v s="$STATE/" 'index($2, s) == 1 {print $2}' /proc/mounts | sort -r; }
for m in $(mounts); do umount -l "$m"; done
for c in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ ! -d "$c$CGROUP_ROOT" ] || find "$c$CGROUP_ROOT" -depth -type d -exec rmdir {} +
done
for f in /var/lib/cni/results/mlop-*-eth0; do
  id=${f#*/mlop-}; rm -f /var/lib/cni/results/*-"${id%-eth0}"-*
done
rm -f /var/lib/kubelet/device-plugins/kubelet.sock
find /run/containerd /var/lib/cni /var/lib/kubelet -depth -type d -empty -delete
[ -z "$(mounts)" ] || { echo "still mounted: $(mounts)"; exit 1; }
rm -rf --one-file-system "$STATE"
