#!/usr/bin/env bash
# etcd, the API server, the controller manager and the scheduler, as processes of this machine. What runs already is left alone.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
mkdir -p "$STATE"/{run,log,pki,etcd}
P=$STATE/pki

[ -f "$STATE/sysctls" ] || for k in "${SYSCTLS[@]}"; do echo "$k=$(sysctl -n "$k")"; done >"$STATE/sysctls"
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
ip link show k8snode >/dev/null 2>&1 || {
  # the API server refuses to advertise a loopback address
  ip link add k8snode type bridge; ip addr add $NODE_IP/32 dev k8snode; ip link set k8snode up
}
"$HERE/pki.sh"

# Tests only: data need not survive a power cut.
start etcd "$KUBE" etcd --name=etcd --data-dir="$STATE/etcd" --unsafe-no-fsync --log-level=warn \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
  --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
  --initial-cluster=etcd=http://127.0.0.1:2380

# Node names don't resolve here: logs and exec need the kubelet's address.
start kube-apiserver "$KUBE" kube-apiserver --etcd-servers=http://127.0.0.1:2379 --cert-dir="$P" \
  --bind-address=$NODE_IP --secure-port=6443 --advertise-address=$NODE_IP --service-cluster-ip-range=$SVC_CIDR \
  --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" --client-ca-file="$P/ca.crt" \
  --kubelet-client-certificate="$P/apiserver-kubelet-client.crt" --kubelet-client-key="$P/apiserver-kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$P/sa.pub" --service-account-signing-key-file="$P/sa.key" \
  --requestheader-client-ca-file="$P/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$P/front-proxy-client.crt" --proxy-client-key-file="$P/front-proxy-client.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
  --audit-policy-file="$HERE/../audit-policy.yaml" --audit-log-path="$STATE/audit.log" --audit-log-maxsize=512 --audit-log-maxbackup=2
await 60 etcd curl -sf http://127.0.0.1:2379/health
await 90 kube-apiserver "$BIN/kubectl" get --raw /readyz

# The controller manager's default of 20 requests a second would delay its own start by seconds and pods of Jobs by more.
fast=(--leader-elect=false --bind-address=127.0.0.1 --kube-api-qps=300 --kube-api-burst=600)
C=$STATE/controller-manager.conf
start kube-controller-manager "$KUBE" kube-controller-manager "${fast[@]}" --cert-dir="$P/controller-manager" \
  --kubeconfig="$C" --authentication-kubeconfig="$C" --authorization-kubeconfig="$C" \
  --cluster-cidr=$POD_CIDR --allocate-node-cidrs=false --service-cluster-ip-range=$SVC_CIDR \
  --root-ca-file="$P/ca.crt" --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" \
  --service-account-private-key-file="$P/sa.key" --use-service-account-credentials
C=$STATE/scheduler.conf
start kube-scheduler "$KUBE" kube-scheduler "${fast[@]}" --cert-dir="$P/scheduler" \
  --kubeconfig="$C" --authentication-kubeconfig="$C" --authorization-kubeconfig="$C"
