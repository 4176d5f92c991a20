#!/usr/bin/env bash
# Certificates (EC keys: about 10 ms each) and a kubeconfig for every client, once per cluster.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ ! -f "$STATE/pki/.done" ] || exit 0
cd "$STATE/pki"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
authority() { # NAME SUBJECT
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "$2" -days 3650 -out "$1.crt" -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
}
certificate() { # NAME AUTHORITY SUBJECT USAGE [ALTERNATIVE NAMES]
  key "$1"
  openssl req -new -key "$1.key" -subj "$3" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 3650 -out "$1.crt" 2>/dev/null \
    -extfile <(printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n%s' "$4" "${5:+subjectAltName=$5}")
}
kubeconfig() { # USER
  cat >"$STATE/$1.conf" <<Y
apiVersion: v1
kind: Config
clusters: [{name: mlop, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 <ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 <"$1.crt"), client-key-data: $(base64 -w0 <"$1.key")}}]
contexts: [{name: mlop, context: {cluster: mlop, user: $1}}]
current-context: mlop
Y
}

api=kubernetes.default.svc
authority ca /CN=kubernetes-ca
authority front-proxy-ca /CN=front-proxy-ca
certificate apiserver ca /CN=kube-apiserver serverAuth \
  "IP:$NODE_IP,IP:$SVC_API,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$api,DNS:$api.cluster.local"
certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
certificate admin ca /O=system:masters/CN=admin clientAuth
certificate controller-manager ca /CN=system:kube-controller-manager clientAuth
certificate scheduler ca /CN=system:kube-scheduler clientAuth
certificate kube-proxy ca /CN=system:kube-proxy clientAuth
certificate kubelet ca "/O=system:nodes/CN=system:node:$NODE" clientAuth
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
for u in admin controller-manager scheduler kube-proxy kubelet; do kubeconfig $u; done
chmod 600 ./*.key "$STATE"/*.conf
touch .done
