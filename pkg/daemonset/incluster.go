// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// accountDir is where a pod finds its service account.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster returns a client for the API server of the cluster that this pod runs in, with the account of the
// pod.
func InCluster(getenv func(string) string) (*API, error) {
	return inCluster(getenv, accountDir)
}

func inCluster(getenv func(string) string, dir string) (*API, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is not a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("this pod has no service account: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(dir, "ca.crt"))
	}
	return &API{
		Server: "https://" + net.JoinHostPort(host, port),
		// The token is replaced while the pod runs.
		Token: func() (string, error) {
			b, err := os.ReadFile(filepath.Join(dir, "token"))
			return strings.TrimSpace(string(b)), err
		},
		Client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots,
			MinVersion: tls.VersionTLS12}}},
	}, nil
}
