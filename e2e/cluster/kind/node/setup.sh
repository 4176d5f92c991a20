#!/usr/bin/env bash
# Runs in the node image while it is built, after all files are in their places.
set -euo pipefail

# Programs where kind's units expect them. The root of a module's files in a build is not executable.
chmod 755 /kind /kind/bin /kind/bin/* /usr/local/bin/*
ln -s kube-all /usr/bin/kubelet
ln -s /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2 /usr/local/bin/
mkdir -p /opt/cni/bin /usr/local/sbin
ln -s /usr/sbin/runc /usr/local/sbin/
for plugin in host-local loopback ptp portmap; do ln -s /usr/lib/cni/$plugin /opt/cni/bin/; done

# systemd starts containerd and the kubelet, and nothing that belongs to a machine of its own.
ln -sf /usr/lib/systemd/systemd /sbin/init
rm -f /lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/sockets.target.wants/*{udev,initctl}* \
  /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
echo ReadKMsg=no >>/etc/systemd/journald.conf
mkdir -p /etc/systemd/system/multi-user.target.wants /etc/kubernetes/manifests
for unit in containerd kubelet undo-mount-hacks; do
  ln -s /etc/systemd/system/$unit.service /etc/systemd/system/multi-user.target.wants/
done
ln -s /dev/null /etc/systemd/system/systemd-binfmt.service
# Debian's settings of the kernel are not the node's alone but the whole machine's.
rm -f /usr/lib/sysctl.d/*.conf

# Without CAP_SYS_RESOURCE nobody may lower oom_score_adj, and runc dies of it with a misleading message.
sed -i 's/\(restrict_oom_score_adj = \)false/\1true/' /etc/containerd/config.toml
ctr oci spec | jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
  >/etc/containerd/cri-base.json

# The images, in containerd's content store. A node unpacks what it starts.
cat >/setup/containerd.toml <<'X'
version = 2
state = "/setup/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/setup/containerd.sock"
[ttrpc]
  address = "/setup/containerd.sock.ttrpc"
X
containerd --config /setup/containerd.toml >/setup/log 2>&1 &
containerd=$!
trap 'kill $containerd; wait $containerd || true' EXIT
images() { ctr --address /setup/containerd.sock --namespace k8s.io images "$@"; }
for _ in {1..300}; do images ls >/dev/null 2>&1 && break; sleep 0.1; done
images ls >/dev/null || { cat /setup/log; exit 1; }
for archive in /setup/images/*.tar; do images import --no-unpack "$archive"; done
