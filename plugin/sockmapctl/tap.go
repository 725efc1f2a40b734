// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"github.com/sockmap-cni/sockmap-cni/pkg/tap"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/spf13/cobra"
)

// tapFlags are what a person says about a tap.
type tapFlags struct {
	pod, namespace, address, netns string
	port                           uint16
	withTCP                        bool
	file                           string
	snap                           uint32
	ring                           int
	duration                       time.Duration
	bounds                         tap.Bounds

	prefix netip.Prefix // of address; not valid: any
	cookie uint64       // of netns; 0: any
}

const tapLong = `Shows messages that go from socket to socket, which no packet capture sees: one
line for each call of send, or with -w a capture for Wireshark, tshark and
tcpdump -r. Addresses are those that the server's end has, in both directions.

The packets of the capture have never been: headers are made up around the bytes
that were sent. Sequence numbers and times are true. A handshake is made up
where a connection is seen from its first byte; its end is not shown. What goes
by TCP is left out, and so missing in its stream, without --with-tcp. After each
send that EAGAIN has ended, as the buffer was full, one message goes by TCP that
tap misses with it, too: the kernel asks nobody about it, and nothing counts it.

There is one tap at a time on a node. Nobody waits for it: what it has no room
for is dropped from the capture, and counted. When it is killed, copying ends
after three seconds. The capture has what programs say to each other, passwords
too: a file that tap makes is readable for its owner only, and one that is there
must be yours, with mode 0600, and no symbolic link.`

func tapCommand(a *app) *cobra.Command {
	var f tapFlags
	cmd := &cobra.Command{
		Use:   "tap",
		Short: "Show or capture messages that go from socket to socket",
		Long:  tapLong,
		Example: `  sockmapctl tap --pod shop/web-0
  sockmapctl tap --port 6379 -w redis.pcapng --duration 10s
  sockmapctl tap --with-tcp -w - | tshark -r - -Y http`,
	}
	f.define(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error { return f.check(a) }
	return runs(cmd, func(cmd *cobra.Command) error {
		if err := a.tap(cmd.Context(), &f); err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		return nil
	})
}

func (f *tapFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.pod, "pod", "", "only connections of this pod: `[NAMESPACE/]NAME`")
	flags.StringVar(&f.namespace, "namespace", "", "only connections of pods in this `NAMESPACE`")
	flags.StringVar(&f.address, "address", "", "only connections from or to this `ADDRESS`, or prefix such as 10.1.0.0/16")
	flags.Uint16Var(&f.port, "port", 0, "only connections to this `PORT` of the server")
	flags.StringVar(&f.netns, "netns", "", "only connections of this network namespace: a `COOKIE`, as flows has it, or a path")
	flags.BoolVar(&f.withTCP, "with-tcp", false, "what accelerated sockets send by TCP, too")
	flags.StringVarP(&f.file, "write", "w", "", "write a capture (pcapng) to `FILE`, - for standard output")
	flags.Uint32Var(&f.snap, "snap", datapath.TapSnapMax, "`BYTES` of each message at most, with -w")
	flags.Uint64Var(&f.bounds.Rate, "rate", 0, "`BYTES` per second at most, messages beyond are dropped and counted; 0: no bound")
	flags.Uint64Var(&f.bounds.MaxBytes, "max-bytes", 0, "end before more than these `BYTES` are captured")
	flags.Uint64VarP(&f.bounds.Count, "count", "c", 0, "end after so many `MESSAGES`")
	flags.DurationVar(&f.duration, "duration", 0, "end after this `TIME`, such as 30s or 5m")
	flags.IntVar(&f.ring, "ring", 16<<20, "`BYTES` of kernel memory for messages that wait to be written, rounded up to a power of two")
}

func (f *tapFlags) check(a *app) (err error) {
	switch {
	case f.snap < 1 || f.snap > datapath.TapSnapMax:
		return fmt.Errorf("--snap: %d is not a whole number from 1 to %d", f.snap, datapath.TapSnapMax)
	case f.ring < datapath.TapRingMin || f.ring > datapath.TapRingMax:
		return fmt.Errorf("--ring: %d is not a whole number from %d to %d", f.ring, datapath.TapRingMin, datapath.TapRingMax)
	case f.duration < 0:
		return fmt.Errorf("--duration: %v is not more than 0", f.duration)
	case f.file == "-" && a.width > 0:
		return fmt.Errorf("-w -: standard output is a terminal")
	}
	if namespace, name, both := strings.Cut(f.pod, "/"); both {
		if f.namespace != "" && f.namespace != namespace {
			return fmt.Errorf("--pod: %q is not in --namespace %q", f.pod, f.namespace)
		}
		f.namespace, f.pod = namespace, name
	}
	if f.address != "" {
		if f.prefix, err = live.ParsePrefix(f.address); err != nil {
			return fmt.Errorf("--address: %q is neither an IP address nor a prefix", f.address)
		}
	}
	f.cookie, err = parseNetNS(f.netns)
	return err
}

func parseNetNS(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	if strings.HasPrefix(s, "/") {
		id, err := netns.Identify(s)
		if err != nil {
			return 0, fmt.Errorf("--netns: %w", err)
		}
		return id.Cookie, nil
	}
	cookie, err := strconv.ParseUint(s, 10, 64)
	if err != nil || cookie == 0 {
		return 0, fmt.Errorf("--netns: %q is neither a cookie nor a path", s)
	}
	return cookie, nil
}

// String is the filter as it was said, for people who find the capture later.
func (f *tapFlags) String() string {
	var words []string
	say := func(name, value string) {
		if value != "" && value != "0" {
			words = append(words, "--"+name+" "+value)
		}
	}
	say("pod", f.pod)
	say("namespace", f.namespace)
	say("address", f.address)
	say("port", strconv.Itoa(int(f.port)))
	say("netns", f.netns)
	if f.withTCP {
		words = append(words, "--with-tcp")
	}
	return strings.Join(words, " ")
}
