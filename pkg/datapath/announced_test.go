// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"testing"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// With Fast Open, the passive end checks the policies of the namespace that has announced the connection. A
// program that may use TCP_REPAIR chooses its ISN, so an accomplice can announce the ISN of a client that the
// policy would refuse.
func TestFastOpenAnnouncementOfAnAccompliceDoesNotBypassPolicy(t *testing.T) {
	const isn = 0x10203040
	for _, namespace := range []string{"shop", "outside"} {
		d := load(t, defaults)
		pods := newPods(t, d,
			Policy{Accelerate: true, Namespace: "shop", Peers: PeersNamespace},
			Policy{Accelerate: true, Namespace: "shop"},
			Policy{Accelerate: true, Namespace: namespace})
		server, accomplice, client := pods[0], pods[1], pods[2]
		cable(t, client.NetNS, server.NetNS)
		const anyTime = "1543" // with data on each SYN, without a cookie
		client.Sysctl(t, "ipv4/tcp_fastopen", anyTime)
		server.Sysctl(t, "ipv4/tcp_fastopen", anyTime)
		var l net.Listener
		server.group.in(t, func() { server.Do(func() { l = listen(t, "tcp4", serverIP8080) }) })
		allowFastOpen(t, l)
		m, err := d.mapOf(bpf.SockmapMapFlows, unsafe.Sizeof(bpf.SockmapRendezvous{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Put(bpf.SockmapIsnPair{Own: isn}, bpf.SockmapRendezvous{ActiveSk: 1,
			ActiveNetns: accomplice.Cookie}); err != nil {
			t.Fatal(err)
		}
		c := connectNumbered(t, client, isn)
		s := accept(t, l)
		if !synDataAcked(t, c) {
			t.Fatal("no data on the SYN")
		}
		receive(t, s, []byte("on the SYN"))
		send(t, c, s, 1000, 1)
		send(t, s, c, 1000, 2)
		send(t, c, s, 1000, 3)
		f, in := flowOf(t, d, c)
		if want := namespace == "shop"; in != want || want && !f.Joined {
			t.Errorf("a client of %q: in the sockhash: %v: %+v", namespace, in, f)
		}
		if f, _ := flowOf(t, d, s); namespace != "shop" && f.RedirectedBytes != 0 {
			t.Errorf("%d bytes were redirected to a client of %q", f.RedirectedBytes, namespace)
		}
	}
}

// connectNumbered connects with data on the SYN, and with an ISN that the program has chosen.
func connectNumbered(t *testing.T, p pod, isn int) *net.TCPConn {
	t.Helper()
	fd := -1
	p.group.in(t, func() {
		p.Do(func() {
			var err error
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Error(err)
				return
			}
			set := func(option, value int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value) }
			const sendQueue = 2
			err = errors.Join(set(unix.TCP_REPAIR, 1), set(unix.TCP_REPAIR_QUEUE, sendQueue),
				set(unix.TCP_QUEUE_SEQ, isn),
				set(unix.TCP_REPAIR, 0))
			to := &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 79, 0, 2}}
			if err := errors.Join(err, unix.Sendto(fd, []byte("on the SYN"), unix.MSG_FASTOPEN, to)); err != nil {
				t.Error(err)
			}
		})
	})
	eventually(t, "the SYN-ACK is there", func() bool {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.State == unix.BPF_TCP_ESTABLISHED
	})
	return fixture.ConnOf(t, fd)
}
