# Settings and helpers of the scripts in this directory. xtask sets STATE, the directory of the cluster's files, IMAGES,
# the directory of its images, which outlives the cluster, and BIN, the directory of the programs.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${STATE:?is given by cargo xtask cluster}" "${IMAGES:?is given by cargo xtask cluster}" "${BIN:?is given by cargo xtask cluster}"
NODE=node-1
NODE_IP=198.18.255.1                 # on a bridge without ports: it never leaves the machine
POD_CIDR=198.18.0.0/16; NODE_POD_CIDR=198.18.0.0/20
SVC_CIDR=198.19.0.0/17; SVC_API=198.19.0.1; SVC_DNS=198.19.0.10
CGROUP_ROOT=/mlop-cluster            # our own top cgroup in every hierarchy
CRI=$STATE/run/containerd.sock
KUBE=$BIN/kube-all
OUT_IF=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -1)
# What the node's parts set on the whole machine; down.sh puts the values of before back.
SYSCTLS=(net.ipv4.ip_forward net.ipv4.conf.all.route_localnet vm.overcommit_memory vm.panic_on_oom kernel.panic
  kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
export KUBECONFIG=$STATE/admin.conf

# alive NAME: is the process that start NAME made still there (the command line guards against a reused pid)?
alive() {
  local p; p=$(cat "$STATE/run/$1.pid" 2>/dev/null) || return 1
  [ -d "/proc/$p" ] && tr '\0' ' ' <"/proc/$p/cmdline" | grep -qF "$STATE"
}

# start NAME CMD...: in a session of its own, with its output in log/NAME.log
start() {
  local n=$1; shift
  alive "$n" && return 0
  setsid nohup "$@" >>"$STATE/log/$n.log" 2>&1 </dev/null &
  echo $! >"$STATE/run/$n.pid"
}

# stop NAME [SECONDS]: ask, wait, kill
stop() {
  local p i
  if alive "$1"; then
    p=$(cat "$STATE/run/$1.pid"); kill "$p" 2>/dev/null
    for ((i = 0; i < ${2:-10} * 20; i++)); do alive "$1" || break; sleep 0.05; done
    alive "$1" && kill -9 "$p"
  fi
  rm -f "$STATE/run/$1.pid"
}

# await SECONDS NAME CMD...: until CMD succeeds; when NAME's process ends before, that is the error
await() {
  local t=$1 n=$2 i; shift 2
  for ((i = 0; i < t * 10; i++)); do
    "$@" >/dev/null 2>&1 && return 0
    alive "$n" || { echo "$n ended; the last lines of $STATE/log/$n.log:" >&2; tail -5 "$STATE/log/$n.log" >&2; return 1; }
    sleep 0.1
  done
  echo "$n is not ready after $t s: see $STATE/log/$n.log" >&2; return 1
}

# render FILE: config/FILE with its @NAME@s replaced, to $STATE/FILE
render() {
  local n script=""
  for n in STATE IMAGES CRI NODE NODE_IP NODE_POD_CIDR POD_CIDR SVC_DNS CGROUP_ROOT; do script+="s#@$n@#${!n}#g;"; done
  sed "$script" "$HERE/config/$1" >"$STATE/$1"
}
