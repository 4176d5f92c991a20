// The commands of crictl that kind runs on a node: `images` lists the images, and `inspecti IMAGE` describes one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	containerd = "unix:///run/containerd/containerd.sock"
	limit      = 30 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	connection, err := grpc.NewClient(containerd, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := cri.NewImageServiceClient(connection)
	switch {
	case len(arguments) > 0 && arguments[0] == "images":
		return list(ctx, client)
	case len(arguments) > 1 && arguments[0] == "inspecti":
		return inspect(ctx, client, arguments[len(arguments)-1])
	}
	return fmt.Errorf("usage: crictl images | crictl inspecti IMAGE")
}

func list(ctx context.Context, client cri.ImageServiceClient) error {
	response, err := client.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tIMAGE ID\tSIZE")
	for _, image := range response.Images {
		for _, tag := range image.RepoTags {
			fmt.Fprintf(table, "%s\t%s\t%d\n", tag, image.Id, image.Size)
		}
	}
	return table.Flush()
}

func inspect(ctx context.Context, client cri.ImageServiceClient, name string) error {
	response, err := client.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return err
	}
	if response.Image == nil {
		return fmt.Errorf("no such image %q present", name)
	}
	status, err := protojson.Marshal(response.Image)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]json.RawMessage{"status": status})
}
