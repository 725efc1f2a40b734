// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Message is what recvmsg(2) returned in addition to the bytes.
type Message struct {
	Ret
	Flags   int
	Name    int // length of the address
	Control []unix.SocketControlMessage
}

// vectors splits b into pieces of these sizes.
func (t *T) vectors(b []byte, sizes []int) *[]unix.Iovec {
	v := make([]unix.Iovec, 0, len(sizes)+1)
	for _, size := range sizes {
		piece := unix.Iovec{}
		if size > 0 {
			piece.Base = &b[0]
		}
		piece.SetLen(size)
		v = append(v, piece)
		b = b[size:]
	}
	keep(t, &b)
	return &v
}

func total(sizes []int) (n int) {
	for _, size := range sizes {
		n += size
	}
	return n
}

// header makes a msghdr for b in pieces, with space for control bytes.
func (t *T) header(b []byte, control int, sizes ...int) *unix.Msghdr {
	h := &unix.Msghdr{}
	v := *t.vectors(b, sizes)
	if len(v) > 0 {
		keep(t, &v[0])
		h.Iov = &v[0]
		h.SetIovlen(len(v))
	}
	if control > 0 {
		c := t.Buffer(control)
		h.Control = &c[0]
		h.SetControllen(control)
	}
	return h
}

// Recvmsg is recvmsg(2) into pieces of these sizes, with space for control bytes.
func (s *Sock) Recvmsg(flags, control int, sizes ...int) Message {
	b := s.t.Buffer(total(sizes))
	h := s.t.header(b, control, sizes...)
	name := unix.RawSockaddrAny{}
	h.Name, h.Namelen = (*byte)(ptr(keep(s.t, &name))), unix.SizeofSockaddrAny
	r := s.receive(flags, unix.SYS_RECVMSG, keep(s.t, h), uintptr(flags))
	m := Message{Ret: received(r, b), Flags: int(h.Flags), Name: int(h.Namelen)}
	if r.Errno == 0 && h.Controllen > 0 {
		m.Control, _ = unix.ParseSocketControlMessage(bytesAt(h.Control, int(h.Controllen)))
	}
	return m
}

// String includes the flags that the kernel set.
func (m Message) String() string {
	if m.Errno != 0 {
		return m.Ret.String()
	}
	return m.Ret.String() + flagNames(m.Flags) + m.controlNames()
}

func flagNames(flags int) (names string) {
	for _, f := range []struct {
		bit  int
		name string
	}{
		{unix.MSG_OOB, "OOB"}, {unix.MSG_TRUNC, "TRUNC"}, {unix.MSG_CTRUNC, "CTRUNC"},
		{unix.MSG_ERRQUEUE, "ERRQUEUE"}, {unix.MSG_EOR, "EOR"}, {unix.MSG_CMSG_CLOEXEC, "CMSG_CLOEXEC"},
	} {
		if flags&f.bit != 0 {
			names += " " + f.name
		}
	}
	return names
}

// controlNames lists level:type of the control messages.
func (m Message) controlNames() (names string) {
	for _, c := range m.Control {
		names += fmt.Sprintf(" cmsg %d:%d", c.Header.Level, c.Header.Type)
	}
	return names
}

// Readv is readv(2).
func (s *Sock) Readv(sizes ...int) Ret {
	b := s.t.Buffer(total(sizes))
	v := *s.t.vectors(b, sizes)
	return received(s.receive(0, unix.SYS_READV, keep(s.t, &v[0]), uintptr(len(v))), b)
}

// Writev is writev(2) of b in pieces.
func (s *Sock) Writev(b string, sizes ...int) Ret {
	data := s.t.Buffer(len(b))
	copy(data, b)
	v := *s.t.vectors(data, sizes)
	return s.transmit(0, unix.SYS_WRITEV, keep(s.t, &v[0]), uintptr(len(v)))
}

// Sendmsg is sendmsg(2) of b in pieces.
func (s *Sock) Sendmsg(b string, flags int, sizes ...int) Ret {
	data := s.t.Buffer(len(b))
	copy(data, b)
	return s.transmit(flags, unix.SYS_SENDMSG, keep(s.t, s.t.header(data, 0, sizes...)),
		uintptr(flags|unix.MSG_NOSIGNAL))
}

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// Recvmmsg is recvmmsg(2) of count messages of size bytes each.
func (s *Sock) Recvmmsg(count, size, flags int, timeout time.Duration) string {
	headers := make([]mmsghdr, count)
	buffers := make([][]byte, count)
	for i := range headers {
		buffers[i] = s.t.Buffer(size)
		headers[i].Msghdr = *s.t.header(buffers[i], 0, size)
	}
	var ts uintptr
	if timeout > 0 {
		spec := unix.NsecToTimespec(int64(timeout))
		ts = keep(s.t, &spec)
	}
	r := s.receive(flags, unix.SYS_RECVMMSG, keep(s.t, &headers[0]), uintptr(count), uintptr(flags), ts)
	out := []string{r.String()}
	for i := range max(r.N, 0) {
		out = append(out, Text(buffers[i][:headers[i].n]))
	}
	return strings.Join(out, " ")
}

// Sendmmsg is sendmmsg(2).
func (s *Sock) Sendmmsg(flags int, messages ...string) string {
	headers := make([]mmsghdr, len(messages))
	for i, m := range messages {
		b := s.t.Buffer(len(m))
		copy(b, m)
		headers[i].Msghdr = *s.t.header(b, 0, len(m))
	}
	r := s.transmit(flags, unix.SYS_SENDMMSG, keep(s.t, &headers[0]), uintptr(len(headers)),
		uintptr(flags|unix.MSG_NOSIGNAL))
	out := []string{r.String()}
	for i := range max(r.N, 0) {
		out = append(out, fmt.Sprint(headers[i].n))
	}
	return strings.Join(out, " ")
}
