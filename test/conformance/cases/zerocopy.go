// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// zeroCopy has cases of MSG_ZEROCOPY, whose buffers belong to the kernel until a completion comes.
func zeroCopy() []Case {
	return []Case{
		{Name: "zerocopy/option", Idle: "nothing is sent", Run: func(t *T) {
			t.See("SO_ZEROCOPY", t.C.Set(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1))
			t.See("stored", t.C.Get(unix.SOL_SOCKET, unix.SO_ZEROCOPY))
		}},
		{Name: "zerocopy/without-option", Run: func(t *T) {
			t.See("send", t.C.Send("hello", unix.MSG_ZEROCOPY))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("completion", t.C.Recvmsg(unix.MSG_ERRQUEUE, 256, 16))
		}},
		{Name: "zerocopy/completion", Run: func(t *T) {
			// This message is redirected, and no later one may be: if no guard refuses the option, the sender
			// is on TCP from then on.
			t.See("send before", t.C.Send("hello", 0))
			t.Receive("received before", t.S, len("hello"))
			zeroCopySends(t, t.C, t.S)
		}},
		{Name: "zerocopy/set-before-connecting", Alone: true, Yields: "SO_ZEROCOPY",
			Idle: "a guard keeps it on TCP", Run: func(t *T) {
				l := t.Listen()
				c := t.Dial(l, func(s *Sock) {
					t.See("SO_ZEROCOPY", s.Set(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1))
				})
				s := l.Accept()
				t.WarmUp(c, s)
				zeroCopySends(t, c, s)
			}},
		{Name: "zerocopy/accepted-end", Alone: true, Yields: "SO_ZEROCOPY", Idle: "a guard keeps it on TCP",
			Run: func(t *T) {
				l := t.Listen(func(s *Sock) {
					t.See("SO_ZEROCOPY", s.Set(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1))
				})
				c := t.Dial(l)
				s := l.Accept()
				t.WarmUp(c, s)
				zeroCopySends(t, s, c)
			}},
		{Name: "zerocopy/receive", Run: zeroCopyReceive},
	}
}

// zeroCopySends sends as a program does that copies when zero copy is refused, and waits for the completions
// of its sends.
func zeroCopySends(t *T, from, to *Sock) {
	flags := 0
	r := from.Set(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)
	t.See("SO_ZEROCOPY", r)
	if r.Errno == 0 {
		flags = unix.MSG_ZEROCOPY
	}
	sent := pattern(32<<10, 11) // fits into a send buffer that has not grown yet
	for range 3 {
		t.See("send", from.SendBytes(sent, flags))
		t.Receive("received", to, len(sent))
	}
	if flags == 0 {
		return
	}
	t.See("completions", completions(t, from, 3))
}

// completions reads notifications until those of n sends have come.
func completions(t *T, s *Sock, n uint32) string {
	var seen uint32
	for seen < n {
		if s.Poll(0, 300*time.Millisecond) == "nothing" {
			return fmt.Sprintf("%d of %d, then blocks", seen, n)
		}
		m := s.Recvmsg(unix.MSG_ERRQUEUE, 256, 1)
		if m.Errno != 0 {
			return m.String()
		}
		for _, c := range m.Control {
			if len(c.Data) >= 16 && c.Data[4] == unix.SO_EE_ORIGIN_ZEROCOPY {
				first := binary.NativeEndian.Uint32(c.Data[8:])
				last := binary.NativeEndian.Uint32(c.Data[12:])
				seen += last - first + 1
			}
		}
	}
	return fmt.Sprintf("%d of %d", seen, n)
}

// zeroCopyArgs is the first part of struct tcp_zerocopy_receive.
type zeroCopyArgs struct {
	address     uint64
	length      uint32
	copyInstead uint32
	inq         uint32
	err         int32
}

// zeroCopyReceive has cases of TCP_ZEROCOPY_RECEIVE, which may always return that the bytes must be copied.
// The mapped and the copied bytes together must be all bytes.
func zeroCopyReceive(t *T) {
	const tcpZerocopyReceive = 35
	sent := pattern(64<<10, 12)
	t.C.WriteAll(sent)
	t.Pause()
	area, err := unix.Mmap(t.S.FD, 0, len(sent), unix.PROT_READ, unix.MAP_SHARED)
	t.See("mmap", suite.Errno(err))
	if err != nil {
		t.S.ReadFull(len(sent))
		return
	}
	defer func() { _ = unix.Munmap(area) }()
	args := zeroCopyArgs{address: uint64(suite.Address(area)), length: uint32(len(sent))}
	size := uint32(unsafe.Sizeof(args))
	r := suite.Call(unix.SYS_GETSOCKOPT, uintptr(t.S.FD), unix.IPPROTO_TCP, tcpZerocopyReceive,
		suite.Keep(t, &args), suite.Keep(t, &size))
	t.See("TCP_ZEROCOPY_RECEIVE", suite.Errno(r.Errno))
	if r.Errno == 0 {
		t.See("says what there is", int(args.length)+int(args.copyInstead) > 0)
	} else {
		args.length = 0 // not changed: nothing is mapped
	}
	got := append([]byte{}, area[:min(int(args.length), len(area))]...)
	rest, _ := t.S.ReadFull(len(sent) - len(got))
	t.Stream("received", append(got, rest...))
}
