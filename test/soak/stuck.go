// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// describeStuck adds the state of both ends in kernel and data path to the error of a conversation that has
// reached its limit: a hang that is not explained immediately is hard to reproduce.
func describeStuck(err error, node *lab.Node, ends ...net.Conn) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	var state strings.Builder
	for _, c := range ends {
		fmt.Fprintf(&state, "\n  %v -> %v: %s", c.LocalAddr(), c.RemoteAddr(), tcpState(c))
	}
	d, openErr := datapath.Open(node.BPFFS())
	if openErr != nil {
		return fmt.Errorf("%w%s\n  data path: %w", err, state.String(), openErr)
	}
	defer d.Close()
	listErr := d.Flows(func(f datapath.Flow) bool {
		for _, c := range ends {
			if f.Local.String() == c.LocalAddr().String() && f.Remote.String() == c.RemoteAddr().String() {
				fmt.Fprintf(&state, "\n  %+v", f)
			}
		}
		return true
	})
	return errors.Join(fmt.Errorf("%w%s", err, state.String()), listErr)
}

func tcpState(c net.Conn) (text string) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	err = raw.Control(func(fd uintptr) {
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if infoErr != nil {
			text = infoErr.Error()
			return
		}
		in, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
		out, _ := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		text = fmt.Sprintf("unread %d, unacknowledged %d, not sent %d, %+v", in, out, info.Notsent_bytes, *info)
	})
	if err != nil {
		return err.Error()
	}
	return text
}
