// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// testServices connects to pods through a ClusterIP, in both modes of kube-proxy. A connection continues when
// the mode changes.
func testServices(t *testing.T) {
	installed(t)
	s := server("web")
	s.replicas = 2
	deploy(t, s)
	service := expose(t, s)
	host, _, _ := strings.Cut(service, ":")
	c := client("web-client", service, "-requests", "0")
	idle := server("idle")
	deploy(t, c, idle)
	clientPod, idlePod := podOf(t, c.name), podOf(t, idle.name)
	wantAccelerated(t, append(pods(t, s.name), clientPod, idlePod)...)

	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			proxyIn(t, mode, host)
			answered(t, service)
			wantRedirected(t, idlePod.Metadata.Name, service)
			redirecting(t, c.name, clientPod.Metadata.Name)
		})
	}
	if got := goesOn(t, c.name, 100); got.Connections != 1 {
		t.Errorf("the connection did not outlive the change of kube-proxy's mode: %+v", got)
	}
	proxyIn(t, "iptables", host)
}

// proxyIn restarts kube-proxy in a mode, and waits until its rules translate the address, and no others do.
func proxyIn(t *testing.T, mode, address string) {
	t.Helper()
	if err := prepareProxy(mode); err != nil {
		t.Fatal(err)
	}
	if err := proxy.restart(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rules are those of "+mode, func() error {
		legacy, err := command("iptables-save", "-t", "nat")
		if err != nil {
			return err
		}
		native, err := command("nft", "list", "tables")
		if err != nil {
			return err
		}
		inLegacy := strings.Contains(string(legacy), address+"/32")
		inNative := strings.Contains(string(native), "table ip kube-proxy")
		if inNative {
			rules, err := command("nft", "list", "table", "ip", "kube-proxy")
			if err != nil {
				return err
			}
			inNative = strings.Contains(string(rules), address)
		}
		if inLegacy != (mode == "iptables") || inNative != (mode == "nftables") {
			return fmt.Errorf("%s in the rules of iptables: %t, in those of nftables: %t", address, inLegacy, inNative)
		}
		return nil
	})
}

// testLeftOut has pods that stay on TCP: one by its annotation, one because it uses the node's network.
func testLeftOut(t *testing.T) {
	installed(t)
	out := server("out")
	out.annotations = map[string]string{"sockmap-cni/accelerate": "false"}
	onHost := server("on-host")
	onHost.hostNetwork = true
	in, other := server("in"), server("other")
	deploy(t, out, onHost, in, other)
	outPod, hostPod, inPod, otherPod := podOf(t, out.name), podOf(t, onHost.name), podOf(t, in.name),
		podOf(t, other.name)

	if e := attachmentOf(t, outPod.Metadata.Name); e == nil || e.Accelerated || e.Reason != "opted-out" {
		t.Errorf("the pod with the annotation: %+v", e)
	}
	if e := attachmentOf(t, hostPod.Metadata.Name); e != nil {
		t.Errorf("the pod on the node's network: %+v", e)
	}
	for _, other := range []pod{outPod, hostPod} {
		wantPlain(t, inPod, other)
		wantPlain(t, other, inPod)
	}
	wantRedirected(t, inPod.Metadata.Name, otherPod.at())

	all := standings(t)
	for name, want := range map[string]standing{
		outPod.Metadata.Name: {"opted-out", "opted-out"}, hostPod.Metadata.Name: {"left-out", "host-network"},
		inPod.Metadata.Name: {"accelerated", ""},
	} {
		if got := all[name]; got != want {
			t.Errorf("sockmapctl adopt --dry-run: %s: %+v, want %+v", name, got, want)
		}
	}
}

// testHostNetwork has a pod on the node's network that asks for acceleration, as an ingress controller would.
// The node itself shares that network, and is not accelerated. The pod's attachment is removed with its
// cgroup.
func testHostNetwork(t *testing.T) {
	installed(t)
	ingress, in := server("ingress"), server("in")
	ingress.hostNetwork, ingress.annotations = true, map[string]string{"sockmap-cni/accelerate": "true"}
	deploy(t, ingress, in)
	ingressPod, inPod := podOf(t, ingress.name), podOf(t, in.name)
	eventually(t, "the agent takes the pod with hostNetwork in", func() error {
		if e := attachmentOf(t, ingressPod.Metadata.Name); e == nil || !e.Accelerated {
			return fmt.Errorf("it is %+v", e)
		}
		return nil
	})
	wantRedirected(t, inPod.Metadata.Name, ingressPod.at())
	wantRedirected(t, ingressPod.Metadata.Name, inPod.at())
	k(t, "delete", "deployment", ingress.name)
	eventually(t, "nothing is left of it", func() error {
		_ = sockmapctl(t, "gc")
		if e := attachmentOf(t, ingressPod.Metadata.Name); e != nil {
			return fmt.Errorf("there is %+v", *e)
		}
		return nil
	})
}

// testPolicy has rules like a network policy: one pod may not connect to the server, another may.
func testPolicy(t *testing.T) {
	installed(t)
	s, allowed, denied := server("server"), server("allowed"), server("denied")
	deploy(t, s, allowed, denied)
	serverPod, allowedPod, deniedPod := podOf(t, s.name), podOf(t, allowed.name), podOf(t, denied.name)
	wantRedirected(t, deniedPod.Metadata.Name, serverPod.at())

	rule := []string{"FORWARD", "-s", deniedPod.Status.PodIP, "-d", serverPod.Status.PodIP, "-p", "tcp", "-j",
		"DROP"}
	if _, err := command("iptables", append([]string{"-w", "-I"}, rule...)...); err != nil {
		t.Fatal(err)
	}
	removed := false
	remove := func() {
		if _, err := command("iptables", append([]string{"-w", "-D"}, rule...)...); err != nil {
			t.Error(err)
		}
		removed = true
	}
	defer func() {
		if !removed {
			remove()
		}
	}()
	wantBlocked(t, deniedPod.Metadata.Name, serverPod.at())
	wantRedirected(t, allowedPod.Metadata.Name, serverPod.at())
	wantBlocked(t, deniedPod.Metadata.Name, serverPod.at())
	remove()
	wantRedirected(t, deniedPod.Metadata.Name, serverPod.at())
}

// testRollingUpdate replaces the pods of a service while clients make one connection after the other to it.
func testRollingUpdate(t *testing.T) {
	installed(t)
	s := server("shop")
	s.replicas, s.graceful = 2, true
	deploy(t, s)
	c := client("shop-client", expose(t, s), "-conns", "4", "-requests", "200", "-pause", "5ms")
	deploy(t, c)
	clientPod := podOf(t, c.name)
	redirecting(t, c.name, clientPod.Metadata.Name)
	before, old := goesOn(t, c.name, 0), pods(t, s.name)

	k(t, "set", "env", "deployment/"+s.name, "GENERATION=2")
	rolledOut(t, "deployment/"+s.name)
	eventually(t, "the old pods are gone", func() error {
		for _, p := range old {
			if out, err := kubectl("get", "pod", p.Metadata.Name, "--ignore-not-found", "-o", "name"); err != nil ||
				len(out) > 0 {
				return fmt.Errorf("%s is there: %w", p.Metadata.Name, err)
			}
		}
		return nil
	})
	redirecting(t, c.name, clientPod.Metadata.Name)
	after := goesOn(t, c.name, 1000)
	if after.Connections <= before.Connections+4 {
		t.Errorf("%d connections before, %d after the update: it proves nothing", before.Connections,
			after.Connections)
	}
	wantAccelerated(t, pods(t, s.name)...)
	wantSame(t, c.name, clientPod)
	t.Logf("before %+v, after %+v", before, after)
}
