#!/usr/bin/env bash
# containerd, the kubelet and kube-proxy, as processes of this machine, until the node is registered and ready.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
mkdir -p "$IMAGES" "$STATE"/{kubelet,cni/conf,cni/ipam,volumes,pod-logs,static-pods}

# Nothing that a pod sends leaves the machine.
[ -z "$OUT_IF" ] || iptables -w -C FORWARD -s $POD_CIDR -o "$OUT_IF" -j REJECT 2>/dev/null ||
  iptables -w -I FORWARD -s $POD_CIDR -o "$OUT_IF" -j REJECT
# cgroup v1: the kubelet wants its root in every hierarchy, and cpusets start out empty. v2 needs neither.
for c in cpu cpuacct cpuset memory pids devices freezer blkio systemd; do
  d=/sys/fs/cgroup/$c; [ -d $d ] || continue
  mkdir -p $d$CGROUP_ROOT
  [ $c != cpuset ] || for f in cpus mems; do cat $d/cpuset.$f >$d$CGROUP_ROOT/cpuset.$f; done
done
[ ! -f /sys/fs/cgroup/cgroup.controllers ] || mkdir -p /sys/fs/cgroup$CGROUP_ROOT

for f in cni/conf/bridge.conflist containerd.toml kubelet.yaml kube-proxy.yaml; do render $f; done
: >"$STATE/resolv.conf"   # CoreDNS has nobody to forward to: unknown names fail at once
start containerd containerd --config "$STATE/containerd.toml"
await 30 containerd ctr -a "$CRI" version
start kube-proxy "$KUBE" kube-proxy --config="$STATE/kube-proxy.yaml"

# A node that was there before the kubelet still counts as ready: it is back when its lease is renewed. The kubelet ends
# when containerd has not yet found again the pods that it ran; it is then started again, like any service.
renewed_at() { "$BIN/kubectl" -n kube-node-lease get lease $NODE --ignore-not-found -o jsonpath='{.spec.renewTime}'; }
before=; alive kubelet || before=$(renewed_at)
is_back() { local at; "$BIN/kubectl" get node $NODE && at=$(renewed_at) && { [ -z "$before" ] || [ "$at" != "$before" ]; }; }
for tries_left in 9 8 7 6 5 4 3 2 1 0; do
  start kubelet "$KUBE" kubelet --config="$STATE/kubelet.yaml" --kubeconfig="$STATE/kubelet.conf" --root-dir="$STATE/kubelet" \
    --cert-dir="$STATE/kubelet/pki" --hostname-override=$NODE --node-ip=$NODE_IP
  why=$(await 60 kubelet is_back 2>&1) && break
  [ $tries_left != 0 ] || { echo "$why" >&2; exit 1; }
  sleep 1
done
"$BIN/kubectl" wait --for=condition=Ready node/$NODE --timeout=90s >/dev/null
