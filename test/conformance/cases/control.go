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

// controlMessages has cases about the control messages of recvmsg(2).
func controlMessages() []Case {
	const sol, tcp = unix.SOL_SOCKET, unix.IPPROTO_TCP
	return []Case{
		{Name: "cmsg/inq", Yields: "TCP_INQ", Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			t.See("TCP_INQ", t.S.Set(tcp, unix.TCP_INQ, 1))
			t.C.Send("abcdefgh", 0)
			t.Pause()
			m := t.S.Recvmsg(0, 64, 3)
			t.See("recvmsg", m)
			t.See("left", inqOf(m))
			m = t.S.Recvmsg(0, 64, 16)
			t.See("recvmsg", m)
			t.See("left", inqOf(m))
		}},
		{Name: "cmsg/inq-round-trip", Idle: idle, Yields: "TCP_INQ", Run: func(t *T) {
			t.See("set", t.S.Set(tcp, unix.TCP_INQ, 1))
			t.See("get", t.S.Get(tcp, unix.TCP_INQ))
			t.See("wrong value", t.S.Set(tcp, unix.TCP_INQ, 2))
		}},
		stamped("cmsg/timestamp", unix.SO_TIMESTAMP, 1),
		stamped("cmsg/timestampns", unix.SO_TIMESTAMPNS, 1),
		stamped("cmsg/timestamping-receive", unix.SO_TIMESTAMPING,
			unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE),
		{Name: "cmsg/timestamping-send", Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			flags := unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_ACK |
				unix.SOF_TIMESTAMPING_SOFTWARE |
				unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
			t.See("SO_TIMESTAMPING", t.C.Set(sol, unix.SO_TIMESTAMPING, flags))
			t.C.Send("hello", 0)
			t.S.ReadFull(5)
			t.See("POLLERR", t.C.Poll(0, 200*time.Millisecond))
			t.See("notified", t.C.Recvmsg(unix.MSG_ERRQUEUE, 256, 16).Errno == 0)
		}},
		{Name: "cmsg/none-asked", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(0, 256, 16))
		}},
		{Name: "cmsg/rxq-overflow", Run: func(t *T) {
			t.See("SO_RXQ_OVFL", t.S.Set(sol, unix.SO_RXQ_OVFL, 1))
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(0, 64, 16))
		}},
	}
}

// stamped receives with a timestamp option. The kernel begins to timestamp packets some time after the first
// socket asks for it, so the first packets may have none.
func stamped(name string, number, value int) Case {
	return Case{Name: name, Idle: "the verdict leaves it to TCP", Run: func(t *T) {
		t.See("option", t.S.Set(unix.SOL_SOCKET, number, value))
		var m suite.Message
		for range 20 {
			t.C.Send("hello", 0)
			t.Pause()
			if m = t.S.Recvmsg(0, 256, 16); len(m.Control) > 0 {
				break
			}
		}
		t.See("recvmsg", m)
	}}
}

// inqOf is the value of the TCP_INQ message.
func inqOf(m suite.Message) string {
	const tcpCmInq = 36
	for _, c := range m.Control {
		if c.Header.Level == unix.IPPROTO_TCP && c.Header.Type == tcpCmInq && len(c.Data) >= 4 {
			return fmt.Sprint(binary.NativeEndian.Uint32(c.Data))
		}
	}
	return "no message"
}

// information is TCP_INFO and its relatives.
func information() []Case {
	return []Case{
		{Name: "info/state", Idle: idle, Run: func(t *T) {
			t.See("established", info(t, t.C).State)
			const finWait2, closeWait = 5, 8
			t.C.Shutdown(unix.SHUT_WR)
			t.See("after shutdown", t.Eventually(func() bool { return info(t, t.C).State == finWait2 }))
			t.See("at peer", t.Eventually(func() bool { return info(t, t.S).State == closeWait }))
		}},
		{Name: "info/bytes", Run: func(t *T) {
			before, at := info(t, t.C), info(t, t.S)
			t.C.WriteAll(pattern(10000, 26))
			t.S.ReadFull(10000)
			t.See("bytes acked", t.Eventually(func() bool {
				return info(t, t.C).Bytes_acked-before.Bytes_acked == 10000
			}))
			t.See("bytes sent", info(t, t.C).Bytes_sent-before.Bytes_sent)
			t.See("bytes received", info(t, t.S).Bytes_received-at.Bytes_received)
		}},
		{Name: "info/segments", Run: func(t *T) {
			before, at := info(t, t.C), info(t, t.S)
			t.C.Send("hello", 0)
			t.S.ReadFull(5)
			t.See("segments out", info(t, t.C).Data_segs_out > before.Data_segs_out)
			t.See("segments in", info(t, t.S).Data_segs_in > at.Data_segs_in)
		}},
		{Name: "info/health", Run: func(t *T) {
			t.C.WriteAll(pattern(10000, 27))
			t.S.ReadFull(10000)
			i := info(t, t.C)
			t.See("retransmissions", i.Total_retrans)
			t.See("lost", i.Lost)
			t.See("has a round trip time", i.Rtt > 0)
			t.See("congestion window", i.Snd_cwnd > 0)
		}},
		{Name: "info/last-data", Serial: true, Run: func(t *T) {
			t.Rest(200 * time.Millisecond)
			t.C.Send("hello", 0)
			t.S.ReadFull(5)
			t.See("last data sent just now",
				int64(info(t, t.C).Last_data_sent) < t.Scaled(150*time.Millisecond).Milliseconds())
			t.See("last data received just now", int64(info(t,
				t.S).Last_data_recv) < t.Scaled(150*time.Millisecond).Milliseconds())
		}},
		{Name: "info/unread", Run: func(t *T) {
			t.C.WriteAll(pattern(10000, 28))
			t.Pause()
			t.See("not sent", info(t, t.C).Notsent_bytes)
			t.S.ReadFull(10000)
		}},
	}
}

func info(t *T, s *Sock) *unix.TCPInfo {
	i, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO)
	t.Check(err, "get TCP_INFO")
	return i
}

// filters is SO_ATTACH_FILTER, which sees packets.
func filters() []Case {
	attach := func(t *T, s *Sock, keep uint32) {
		program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: keep}}
		fprog := unix.SockFprog{Len: 1, Filter: &program[0]}
		t.See("SO_ATTACH_FILTER", s.SetRaw(unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, unsafe.Pointer(&fprog),
			unsafe.Sizeof(fprog)))
	}
	return []Case{
		{Name: "filter/accepts", Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			attach(t, t.S, 0xffff)
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "filter/drops", Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			attach(t, t.S, 0)
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("SO_DETACH_FILTER", t.S.Set(unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
			t.Eventually(func() bool { return t.S.Poll(unix.POLLIN, 0) == "IN" })
			t.See("recv after detaching", t.S.Recv(16, dontwait).N >= 0)
		}},
	}
}
