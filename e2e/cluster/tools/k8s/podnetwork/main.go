// The pod network of a composed kind node, started on each node by default-cni.yaml.
//
// It writes the CNI configuration for the node's range of pod addresses, and keeps routes to the ranges of the other
// nodes. Packets from pods to other addresses than pods get the node's address. It does not enforce NetworkPolicies and
// has no IPv6.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	configuration = "/etc/cni/net.d/10-pods.conflist"
	// A node that joins is reachable after this time at the latest.
	refresh = 2 * time.Second
	retry   = 200 * time.Millisecond
)

func main() {
	self, pods := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	client, err := connect()
	if err == nil {
		err = masquerade(pods)
	}
	if err != nil {
		log.Fatal(err)
	}
	for {
		time.Sleep(follow(client, self))
	}
}

// connect uses the address of the API server itself, because kube-proxy may not have started.
func connect() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	if server := os.Getenv("CONTROL_PLANE_ENDPOINT"); server != "" {
		config.Host = "https://" + server
	}
	return kubernetes.NewForConfig(config)
}

// masquerade gives packets that leave the pod network the node's address.
func masquerade(pods string) error {
	rules := fmt.Sprintf(`table ip podnetwork
delete table ip podnetwork
table ip podnetwork {
  chain leave {
    type nat hook postrouting priority srcnat - 1; policy accept;
    ip saddr %[1]s ip daddr != { %[1]s, 224.0.0.0/4 } masquerade
  }
}
`, pods)
	nft := exec.Command("nft", "--file", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}

// follow adapts this node to the present nodes, and returns the time until the next look.
func follow(client kubernetes.Interface, self string) time.Duration {
	nodes, err := client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		log.Printf("listing nodes: %v", err)
		return retry
	}
	next := retry
	for _, node := range nodes.Items {
		_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
		if err != nil {
			continue // the controller manager has not assigned it yet
		}
		if node.Name == self {
			err, next = configure(pods), refresh
		} else {
			err = route(pods, node)
		}
		if err != nil {
			log.Printf("node %s: %v", node.Name, err)
		}
	}
	return next
}

func route(pods *net.IPNet, node corev1.Node) error {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: net.ParseIP(address.Address)})
		}
	}
	return nil
}

// configure writes the CNI configuration if it differs. The runtime reads it when it appears under its name.
func configure(pods *net.IPNet) error {
	type object = map[string]any
	wanted, err := json.MarshalIndent(object{
		"cniVersion": "0.3.1",
		"name":       "pods",
		"plugins": []object{
			{
				"type": "ptp",
				"mtu":  1500,
				"ipam": object{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state",
					"routes":  []object{{"dst": "0.0.0.0/0"}},
					"ranges":  [][]object{{{"subnet": pods.String()}}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	if present, err := os.ReadFile(configuration); err == nil && string(present) == string(wanted) {
		return nil
	}
	part := filepath.Join(filepath.Dir(configuration), ".part")
	if err := os.WriteFile(part, wanted, 0o644); err != nil {
		return err
	}
	return os.Rename(part, configuration)
}
