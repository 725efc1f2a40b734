// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

const idle = "nothing is sent"

// An option to set and to get. The observation is the value that the kernel returns.
type option struct {
	name          string
	level, number int
	value         int
}

// roundTrip sets each option on both ends, after they have exchanged data.
func roundTrip(name string, list []option) Case {
	return Case{Name: name, Idle: idle, Run: func(t *T) {
		for _, o := range list {
			t.See(o.name, fmt.Sprint(t.C.Set(o.level, o.number, o.value), " -> ", t.C.Get(o.level, o.number)))
			t.See(o.name+" at server", t.S.Set(o.level, o.number, o.value))
		}
	}}
}

func options() []Case {
	const sol, ip = unix.SOL_SOCKET, unix.IPPROTO_IP
	return []Case{
		roundTrip("options/socket", []option{
			{"SO_KEEPALIVE", sol, unix.SO_KEEPALIVE, 1}, {"SO_PRIORITY", sol, unix.SO_PRIORITY, 3},
			{"SO_MARK", sol, unix.SO_MARK, 7}, {"SO_RCVBUF", sol, unix.SO_RCVBUF, 65536},
			{"SO_SNDBUF", sol, unix.SO_SNDBUF, 65536}, {"SO_OOBINLINE", sol, unix.SO_OOBINLINE, 1},
			{"SO_REUSEADDR", sol, unix.SO_REUSEADDR, 1}, {"SO_REUSEPORT", sol, unix.SO_REUSEPORT, 1},
			{"SO_DONTROUTE", sol, unix.SO_DONTROUTE, 0}, {"SO_BROADCAST", sol, unix.SO_BROADCAST, 1},
			{"SO_BUSY_POLL", sol, unix.SO_BUSY_POLL, 50}, {"SO_RCVLOWAT", sol, unix.SO_RCVLOWAT, 1},
			{"SO_SNDLOWAT", sol, unix.SO_SNDLOWAT, 2}, {"SO_MAX_PACING_RATE", sol, unix.SO_MAX_PACING_RATE, 1 << 30},
			{"SO_PASSCRED", sol, unix.SO_PASSCRED, 1}, {"SO_NO_CHECK", sol, unix.SO_NO_CHECK, 1},
			{"SO_LOCK_FILTER", sol, unix.SO_LOCK_FILTER, 0},
		}),
		roundTrip("options/ip", []option{
			{"IP_TOS", ip, unix.IP_TOS, 0x10}, {"IP_TTL", ip, unix.IP_TTL, 33},
			{"IP_RECVTOS", ip, unix.IP_RECVTOS, 1}, {"IP_FREEBIND", ip, unix.IP_FREEBIND, 1},
			{"IP_MTU_DISCOVER", ip, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO},
			{"IPV6_TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0x10},
		}),
		{Name: "options/identity", Idle: idle, Run: func(t *T) {
			for _, o := range []option{
				{"SO_TYPE", sol, unix.SO_TYPE, 0}, {"SO_PROTOCOL", sol, unix.SO_PROTOCOL, 0},
				{"SO_ACCEPTCONN", sol, unix.SO_ACCEPTCONN, 0}, {"SO_ERROR", sol, unix.SO_ERROR, 0},
			} {
				t.See(o.name, fmt.Sprint(t.C.Get(o.level, o.number), " ", t.S.Get(o.level, o.number)))
			}
		}},
		{Name: "options/cookie", Run: func(t *T) {
			first, err := unix.GetsockoptUint64(t.C.FD, sol, unix.SO_COOKIE)
			t.See("SO_COOKIE", suite.Errno(err))
			t.C.Send("hello", 0)
			t.S.Recv(16, 0)
			second, _ := unix.GetsockoptUint64(t.C.FD, sol, unix.SO_COOKIE)
			other, _ := unix.GetsockoptUint64(t.S.FD, sol, unix.SO_COOKIE)
			t.See("stays", first == second)
			t.See("is the socket's own", first != other && other != 0)
		}},
		{Name: "options/names", Idle: idle, Run: func(t *T) {
			remote, err := t.C.Remote()
			t.See("getpeername", suite.Errno(err))
			t.See("is where it connected", remote.Addr().Unmap() != t.C.Local().Addr() || remote.Port() != 0)
			fromServer, err := t.S.Remote()
			t.See("getpeername at server", suite.Errno(err))
			t.See("family", fromServer.Addr().Is4() == remote.Addr().Is4())
			t.C.Shutdown(unix.SHUT_WR)
			t.S.Close()
			t.Pause()
			_, err = t.C.Remote()
			t.See("getpeername after the end", suite.Errno(err))
		}},
		{Name: "options/memory", Run: func(t *T) {
			t.C.WriteAll(pattern(30<<10, 24))
			t.Pause()
			t.See("receive memory is charged", meminfo(t, t.S)[0] >= 30<<10)
			t.S.ReadFull(30 << 10)
			t.See("and given back", t.Eventually(func() bool { return meminfo(t, t.S)[0] == 0 }))
		}},
		{Name: "options/small-receive-buffer", Bulk: true, Run: func(t *T) {
			t.See("SO_RCVBUF", t.S.Set(sol, unix.SO_RCVBUF, 2048))
			t.C.WriteAll(pattern(512, 26))
			t.Receive("fits", t.S, 512)
			sent := pattern(16<<10, 25)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Receive("received", t.S, len(sent))
			t.See("send", w.Wait())
		}},
		{Name: "options/busy-poll", AlsoBlocking: true, Run: func(t *T) {
			t.S.Set(sol, unix.SO_BUSY_POLL, 50)
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.Pause()
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
	}
}

// meminfo is SO_MEMINFO: receive memory first.
func meminfo(t *T, s *Sock) (info [9]uint32) {
	const soMeminfo = 55
	r := s.GetRaw(unix.SOL_SOCKET, soMeminfo, 36)
	if r.Errno != 0 {
		t.Fail("SO_MEMINFO: %w", r.Errno)
	}
	for i := range r.N / 4 {
		info[i] = binary.NativeEndian.Uint32(r.Data[4*i:])
	}
	return info
}

func optionsOfTCP() []Case {
	const tcp = unix.IPPROTO_TCP
	return []Case{
		roundTrip("options/tcp", []option{
			{"TCP_NODELAY", tcp, unix.TCP_NODELAY, 1}, {"TCP_KEEPIDLE", tcp, unix.TCP_KEEPIDLE, 77},
			{"TCP_KEEPINTVL", tcp, unix.TCP_KEEPINTVL, 7}, {"TCP_KEEPCNT", tcp, unix.TCP_KEEPCNT, 5},
			{"TCP_SYNCNT", tcp, unix.TCP_SYNCNT, 4}, {"TCP_LINGER2", tcp, unix.TCP_LINGER2, 9},
			{"TCP_USER_TIMEOUT", tcp, unix.TCP_USER_TIMEOUT, 4321}, {"TCP_QUICKACK", tcp, unix.TCP_QUICKACK, 1},
			{"TCP_NOTSENT_LOWAT", tcp, unix.TCP_NOTSENT_LOWAT, 16384},
			{"TCP_THIN_DUPACK", tcp, unix.TCP_THIN_DUPACK, 1},
			{"TCP_WINDOW_CLAMP", tcp, unix.TCP_WINDOW_CLAMP, 65536},
			{"TCP_FASTOPEN_CONNECT", tcp, unix.TCP_FASTOPEN_CONNECT, 1}, {"TCP_TX_DELAY", tcp, 37, 0},
		}),
		{Name: "options/congestion", Run: func(t *T) {
			t.See("set", suite.Errno(unix.SetsockoptString(t.C.FD, tcp, unix.TCP_CONGESTION, "reno")))
			name, err := unix.GetsockoptString(t.C.FD, tcp, unix.TCP_CONGESTION)
			t.See("get", fmt.Sprint(strings.TrimRight(name, "\x00"), " ", suite.Errno(err)))
			t.C.Send("hello", 0)
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "options/maxseg", Idle: idle, Run: func(t *T) {
			t.See("plausible", t.C.Get(tcp, unix.TCP_MAXSEG).N > 500)
			t.See("set while connected", t.C.Set(tcp, unix.TCP_MAXSEG, 536))
		}},
		{Name: "options/linger", Idle: idle, Run: func(t *T) {
			r := t.C.GetRaw(unix.SOL_SOCKET, unix.SO_LINGER, 8)
			t.See("default", fmt.Sprintf("%x", r.Data))
			err := unix.SetsockoptLinger(t.C.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3})
			t.See("set", suite.Errno(err))
			t.See("stored", fmt.Sprintf("%x", t.C.GetRaw(unix.SOL_SOCKET, unix.SO_LINGER, 8).Data))
		}},
		{Name: "options/unknown", Idle: idle, Run: func(t *T) {
			t.See("SOL_SOCKET", t.C.Set(unix.SOL_SOCKET, 9999, 1))
			t.See("TCP", t.C.Set(tcp, 9999, 1))
			t.See("get", t.C.Get(tcp, 9999))
		}},
	}
}

// optionsInUse has cases of options that have an effect.
func optionsInUse() []Case {
	const tcp = unix.IPPROTO_TCP
	return []Case{
		{Name: "options/user-timeout-spares-the-living", Run: func(t *T) {
			// The timeout is for data that is not acknowledged. This reader is slow, but alive.
			t.C.Set(tcp, unix.TCP_USER_TIMEOUT, 100)
			t.C.Send("hello", 0)
			t.Rest(300 * time.Millisecond)
			t.See("send", t.C.Send("world", 0))
			t.Receive("received", t.S, 10)
		}},
		{Name: "options/keepalive-probes", Run: func(t *T) {
			t.C.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			t.C.Set(tcp, unix.TCP_KEEPIDLE, 1)
			t.C.Set(tcp, unix.TCP_KEEPINTVL, 1)
			t.C.Set(tcp, unix.TCP_KEEPCNT, 1)
			t.C.Send("hello", 0)
			t.Rest(1300 * time.Millisecond)
			t.See("recv", t.S.Recv(16, 0))
			t.See("alive", t.S.Send("yes", 0))
			t.See("recv", t.C.Recv(16, 0))
		}},
		{Name: "options/before-connecting", Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen(func(s *Sock) {
				t.See("TCP_NODELAY of listener", s.Set(tcp, unix.TCP_NODELAY, 1))
				t.See("SO_KEEPALIVE of listener", s.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
			})
			c := t.Dial(l, func(s *Sock) { t.See("TCP_MAXSEG", s.Set(tcp, unix.TCP_MAXSEG, 1000)) })
			s := l.Accept()
			t.See("inherited", fmt.Sprint(s.Get(tcp, unix.TCP_NODELAY), s.Get(unix.SOL_SOCKET, unix.SO_KEEPALIVE)))
			t.See("TCP_MAXSEG", c.Get(tcp, unix.TCP_MAXSEG).N <= 1000)
			c.Send("hello", 0)
			t.See("recv", s.Recv(16, 0))
		}},
		{Name: "options/repair", Run: func(t *T) {
			// What a checkpointing tool does: freeze, inspect, thaw.
			t.See("TCP_REPAIR", t.C.Set(tcp, unix.TCP_REPAIR, 1))
			t.See("receive queue", t.C.Set(tcp, unix.TCP_REPAIR_QUEUE, 1))
			t.See("peek", t.C.Recv(16, peek|dontwait))
			t.See("thaw", t.C.Set(tcp, unix.TCP_REPAIR, 0))
			t.C.Send("hello", 0)
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "options/repair-dump", Run: func(t *T) {
			t.S.Send("unread", 0)
			t.Pause()
			t.C.Set(tcp, unix.TCP_REPAIR, 1)
			t.C.Set(tcp, unix.TCP_REPAIR_QUEUE, 1)
			t.See("peek", t.C.Recv(16, peek|dontwait))
			t.C.Set(tcp, unix.TCP_REPAIR, 0)
			t.See("recv", t.C.Recv(16, dontwait))
		}},
		{Name: "options/bind-to-device", Idle: idle, Alone: true, Run: func(t *T) {
			s := t.Socket(place.Client, 0)
			t.See("SO_BINDTODEVICE", suite.Errno(unix.BindToDevice(s.FD, "lo")))
			t.See("no such device", suite.Errno(unix.BindToDevice(s.FD, "nosuchdevice")))
		}},
	}
}
