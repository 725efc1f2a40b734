// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// ServePort is the port of servers, on every address.
const ServePort = 8080

// At is the address of a server, as the traffic program takes it.
func At(ip netip.Addr) string { return netip.AddrPortFrom(ip, ServePort).String() }

// Labels are the kubelet's labels of a pod in the namespace default. Those of a container have its name, too.
func Labels(name, uid string) map[string]string {
	return map[string]string{
		"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": uid,
	}
}

// Addresses finds the address of each family in what a runtime says of a pod.
func Addresses(texts []string) (ip4, ip6 netip.Addr, err error) {
	for _, text := range texts {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return ip4, ip6, err
		}
		if ip.Is4() {
			ip4 = ip
		} else {
			ip6 = ip
		}
	}
	if !ip4.IsValid() || !ip6.IsValid() {
		err = fmt.Errorf("addresses are %v, want one of each family", texts)
	}
	return ip4, ip6, err
}

// FirstLine waits for the first line of a container's standard output, in its log. It returns an error if
// none comes, or if the container writes to standard error.
func FirstLine(log string) (line string, err error) {
	const patience = time.Minute
	err = fmt.Errorf("no output of the container within %s", patience)
	fixture.Within(patience, func() (done bool) {
		b, failed := os.ReadFile(log)
		if failed != nil && !errors.Is(failed, os.ErrNotExist) {
			err = failed
			return true
		}
		for text := range strings.Lines(string(b)) {
			// The fields: time, stream, F for a full line, and the line.
			text, full := strings.CutSuffix(text, "\n")
			fields := strings.SplitN(text, " ", 4)
			if !full || len(fields) < 4 {
				continue
			}
			if line, err = fields[3], nil; fields[1] == "stderr" {
				line, err = "", fmt.Errorf("the container reports: %s", fields[3])
			}
			return true
		}
		return false
	})
	return line, err
}
