// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// Target is one end as a person names it.
type Target struct {
	text           string
	addr           netip.Addr // invalid: it is a pod
	namespace, pod string
	port           uint16 // 0: any
}

const targetForms = "ADDRESS, ADDRESS:PORT, NAMESPACE/POD or NAMESPACE/POD:PORT"

func ParseTargets(texts []string) (targets []Target, err error) {
	for _, text := range texts {
		t, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func parseTarget(text string) (Target, error) {
	t := Target{text: text}
	if a, err := netip.ParseAddrPort(text); err == nil && a.Port() != 0 {
		t.addr, t.port = a.Addr().Unmap(), a.Port()
		return t, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		t.addr = a.Unmap()
		return t, nil
	}
	pod, port, given := strings.Cut(text, ":")
	if given {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("%q has no port from 1 to 65535", text)
		}
		t.port = uint16(n)
	}
	var ok bool
	if t.namespace, t.pod, ok = strings.Cut(pod, "/"); !ok || t.namespace == "" || t.pod == "" ||
		strings.Contains(t.pod, "/") {
		return t, fmt.Errorf("%q is not %s", text, targetForms)
	}
	return t, nil
}

func (t Target) isLocal(f *live.Flow) bool {
	return t.is(f.Local, f.Namespace, f.Pod)
}

func (t Target) isRemote(f *live.Flow) bool {
	return t.is(f.Remote, f.PeerNamespace, f.PeerPod)
}

func (t Target) is(at netip.AddrPort, namespace, pod string) bool {
	if t.port != 0 && t.port != at.Port() {
		return false
	}
	if t.addr.IsValid() {
		return t.addr == at.Addr()
	}
	return t.namespace == namespace && t.pod == pod
}
