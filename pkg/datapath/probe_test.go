// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A probe that fails because nothing is redirected does not know the reason. The totals have it.
func TestFailedProbeNamesTheReasonForTCP(t *testing.T) {
	g, dir := newGroup(t), newStateDir(t)
	s := defaults
	s.Probe = func(attach func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
		attached, err := attach(g.dir)
		if err != nil {
			return 0, 0, err
		}
		defer attached.Close()
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 100, 1)
		rawConn(t, server).control(t, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2)
		})
		send(t, client, server, 100, 2)
		client.Close()
		server.Close()
		return 0, 0, errors.New("nothing is redirected")
	}
	_, err := Load(dir, s)
	if err == nil ||
		!strings.Contains(err.Error(), "nothing is redirected (messages of all probes over TCP: ") ||
		!strings.Contains(err.Error(), "rcvlowat 1") {
		t.Errorf("%v", err)
	}
}
