// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/spf13/cobra"
)

// tapFlags are the flags of a tap.
type tapFlags struct {
	filter   live.Filter
	withTCP  bool
	file     string
	snap     uint32
	ring     int
	duration time.Duration
	bounds   tap.Bounds
}

const tapLong = `Shows redirected messages, which no packet capture sees: one line for each call
of send, or with -w a capture for Wireshark, tshark and tcpdump -r. Both
directions have the addresses that the server's socket has.

The capture is made of headers that tap invents around the bytes that were sent.
Sequence numbers and times are true. A handshake is invented where a connection
is seen from its first byte; the end of a connection is not shown. Messages over
TCP are left out, and so missing in their stream, without --with-tcp. After a
send that ended with EAGAIN, as the buffer was full, tap misses one message over
TCP, even with --with-tcp: no program runs for it.

One tap runs at a time on a node. Senders never wait for it: messages without
room in the buffer are dropped from the capture and counted. If tap is killed,
copying ends after three seconds. The capture has the payload of applications,
with their passwords. A file that tap creates is readable for its owner only. A
file that exists must be yours, with mode 0600, and no symbolic link.`

// tapFilterLong is the end of the description, after that of filters.
const tapFilterLong = `
One port, and pods that are one network namespace, are filtered in the kernel.
Other filters copy the messages of the whole node first, which costs CPU time.`

func tapCommand(a *app) *cobra.Command {
	var f tapFlags
	cmd := &cobra.Command{
		Use:   "tap",
		Short: "Show or capture redirected messages",
		Long:  tapLong,
		Example: `  sockmapctl tap --pod shop/web-0
  sockmapctl tap --port 6379 -w redis.pcapng --duration 10s
  sockmapctl tap --with-tcp -w - | tshark -r - -Y http`,
	}
	f.define(cmd)
	a.filterFlags(cmd, &f.filter, live.ByOwner|live.ByAddress|live.ByPort)
	cmd.Long += tapFilterLong
	before(cmd, func() error { return f.check(a) })
	return runs(cmd, func(cmd *cobra.Command) error {
		if err := a.tap(cmd.Context(), &f); err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		return nil
	})
}

func (f *tapFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.withTCP, "with-tcp", false, "include messages that accelerated sockets send over TCP")
	flags.StringVarP(&f.file, "write", "w", "", "write a capture (pcapng) to `FILE`, - for standard output")
	flags.Uint32Var(&f.snap, "snap", datapath.TapSnapMax,
		"capture at most this many `BYTES` of each message, with -w")
	flags.Uint64Var(&f.bounds.Rate, "rate", 0,
		"at most this many `BYTES` per second, further messages are dropped and counted; 0: no limit")
	flags.Uint64Var(&f.bounds.MaxBytes, "max-bytes", 0, "stop before more than these `BYTES` are captured")
	flags.Uint64VarP(&f.bounds.Count, "count", "c", 0, "stop after this number of `MESSAGES`")
	flags.DurationVar(&f.duration, "duration", 0, "stop after this `TIME`, such as 30s or 5m")
	flags.IntVar(&f.ring, "ring", 16<<20,
		"`BYTES` of kernel memory for messages to be written, rounded up to a power of two")
}

func (f *tapFlags) check(a *app) error {
	switch {
	case f.snap < 1 || f.snap > datapath.TapSnapMax:
		return fmt.Errorf("--snap: %d is not a whole number from 1 to %d", f.snap, datapath.TapSnapMax)
	case f.ring < datapath.TapRingMin || f.ring > datapath.TapRingMax:
		return fmt.Errorf("--ring: %d is not a whole number from %d to %d", f.ring, datapath.TapRingMin,
			datapath.TapRingMax)
	case f.duration < 0:
		return fmt.Errorf("--duration: %v is not more than 0", f.duration)
	case f.file == "-" && a.width > 0:
		return errors.New("--write: - is standard output, which is a terminal: redirect it, or name a file")
	}
	return nil
}

// String is the filter as flags, as the capture file has it.
func (f *tapFlags) String() string {
	text := f.filter.String()
	if f.withTCP {
		text = strings.TrimSpace(text + " --with-tcp")
	}
	return text
}
