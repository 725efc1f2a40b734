// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Kubelet reads the current annotations of pods. A runtime has only those with which the sandbox was created.
type Kubelet struct {
	address, tokenFile string
	client             *http.Client
}

// kubeletTime bounds one request, kubeletAnswer the reply in bytes. A node with 1000 pods has about 10 MiB.
const (
	kubeletTime   = 5 * time.Second
	kubeletAnswer = 64 << 20
)

// NewKubelet returns a client for address, HOST:PORT, which must be a loopback address: the certificate of a
// kubelet is usually signed by no known authority, so it is not verified, and the token must not leave the
// node. tokenFile contains a token of a service account that may "get" "nodes/pods". It is read for each
// request, because it is renewed.
func NewKubelet(address, tokenFile string) (*Kubelet, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("kubelet address: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("kubelet address %s is not a loopback address like 127.0.0.1:10250: its "+
			"certificate is not verified, so the token must stay on the node", address)
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	return &Kubelet{address, tokenFile, &http.Client{Transport: transport, Timeout: kubeletTime}}, nil
}

// podList is the part of a PodList that is used.
type podList struct {
	Items []struct {
		Metadata struct {
			UID         string            `json:"uid"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"items"`
}

// Annotations returns the annotations of all pods of the node by UID.
func (k *Kubelet) Annotations(ctx context.Context) (map[string]map[string]string, error) {
	token, err := os.ReadFile(k.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the token for the kubelet: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+k.address+"/pods", nil)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := k.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet for annotations: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the kubelet at %s for annotations: %s (its service account must be allowed "+
			"to get nodes/pods; Kubernetes 1.33 or later)", k.address, response.Status)
	}
	var list podList
	if err := json.NewDecoder(io.LimitReader(response.Body, kubeletAnswer)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the kubelet's reply: %w", err)
	}
	all := map[string]map[string]string{}
	for _, item := range list.Items {
		if item.Metadata.UID == "" {
			return nil, errors.New("read the kubelet's reply: a pod without UID")
		}
		all[item.Metadata.UID] = item.Metadata.Annotations
		if all[item.Metadata.UID] == nil {
			all[item.Metadata.UID] = map[string]string{}
		}
	}
	return all, nil
}

// annotate sets the current annotations of pods. If the kubelet does not answer, or does not know a pod, its
// annotations are unsure.
func annotate(all []Pod, now map[string]map[string]string) {
	for i := range all {
		annotations, known := now[all[i].UID]
		if known {
			all[i].Annotations = annotations
		}
		all[i].Unsure = !known
	}
}
