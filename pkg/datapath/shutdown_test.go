// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// answered reports whether the other end has acknowledged all that TCP has sent, or reset the connection.
func answered(t *testing.T, c *net.TCPConn) bool {
	t.Helper()
	info := tcpInfo(t, c)
	return info.State == unix.BPF_TCP_CLOSE || info.Unacked == 0 && info.Notsent_bytes == 0
}

// If a reader has shut down its receiving side, the sender uses TCP, and learns from it how the reader treats
// later bytes.
func TestAReaderThatHasShutDownReceivingIsLeftToTCP(t *testing.T) {
	for name, how := range map[string]int{"SHUT_RD": unix.SHUT_RD, "SHUT_RDWR": unix.SHUT_RDWR} {
		t.Run(name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			sendsAfter := func() (answers []string) {
				client, server := g.pair(t, "tcp4", "127.0.0.1:0")
				send(t, client, server, 100, 1)
				send(t, server, client, 100, 2)
				rawConn(t, server).control(t, func(fd int) error { return unix.Shutdown(fd, how) })
				if how == unix.SHUT_RDWR {
					eventually(t, "the FIN is there", func() bool {
						return tcpInfo(t, client).State == unix.BPF_TCP_CLOSE_WAIT
					})
				}
				for range 5 {
					rawConn(t, client).control(t, func(fd int) error {
						n, err := unix.SendmsgN(fd, make([]byte, 1000), nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
						answers = append(answers, fmt.Sprint(n, err))
						return nil
					})
					eventually(t, "TCP has answered", func() bool { return answered(t, client) })
				}
				client.Close()
				server.Close()
				return answers
			}
			plain := sendsAfter()
			g.attach(t, d)
			accelerated := sendsAfter()
			if !slices.Equal(plain, accelerated) {
				t.Errorf("plain TCP: %v, accelerated: %v", plain, accelerated)
			}
			all, err := d.Totals()
			if err != nil {
				t.Fatal(err)
			}
			if sums := all[unregistered]; sums.RedirectedBytes != 200 || sums.Fallbacks[ReasonShutdown] != 1 {
				t.Errorf("%d bytes redirected, want 200; back to TCP: %v, want once because of shutdown",
					sums.RedirectedBytes, sums.Fallbacks)
			}
		})
	}
}
