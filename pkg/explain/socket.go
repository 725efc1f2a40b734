// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket has the addresses and the options of one TCP socket of a process.
type Socket struct {
	Local        netip.AddrPort `json:"local" doc:"local address and port"`
	Remote       netip.AddrPort `json:"remote" doc:"remote address and port; empty when the socket is not connected"`
	NetNSCookie  uint64         `json:"netnsCookie" doc:"of the network namespace of the socket, which may differ from that of the process"`
	SocketCookie uint64         `json:"socketCookie" doc:"SO_COOKIE"`
	TCPState     uint8          `json:"tcpState" doc:"number of the TCP state, 1 is ESTABLISHED"`
	Connected    bool           `json:"connected" doc:"the socket has a peer"`
	NonBlocking  bool           `json:"nonBlocking" doc:"O_NONBLOCK is set"`
	RcvLowat     int            `json:"rcvlowat" doc:"value of SO_RCVLOWAT"`
	PeekOff      int            `json:"peekOff" doc:"value of SO_PEEK_OFF; -1 when it is off"`
	ZeroCopy     bool           `json:"zerocopy" doc:"SO_ZEROCOPY is set"`
	Inq          bool           `json:"inq" doc:"TCP_INQ is set"`
	Stamps       bool           `json:"timestamps" doc:"SO_TIMESTAMP, SO_TIMESTAMPNS or SO_TIMESTAMPING is set"`
	Filter       bool           `json:"filter" doc:"a socket filter (SO_ATTACH_FILTER) is attached"`
	Repair       bool           `json:"repair" doc:"TCP_REPAIR is on"`
	MPTCP        bool           `json:"mptcp" doc:"the socket is an MPTCP socket"`
	ULP          string         `json:"ulp" doc:"upper-layer protocol (TCP_ULP); empty when there is none"`
}

// ErrNotTCP is returned for descriptors that are no TCP socket.
var ErrNotTCP = errors.New("not a TCP socket")

// ReadSocket reads the socket at descriptor fd of process pid, through a duplicate that it closes again. It
// changes nothing in that process.
func ReadSocket(pid, fd int) (*Socket, error) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(link, "socket:") {
		return nil, fmt.Errorf("descriptor %d of process %d is %s: %w", fd, pid, link, ErrNotTCP)
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(process)
	s, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor %d of process %d: %w", fd, pid, err)
	}
	defer unix.Close(s)
	socket, err := readSocket(s)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d of process %d: %w", fd, pid, err)
	}
	return socket, nil
}

func readSocket(s int) (*Socket, error) {
	protocol, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return nil, err
	}
	if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return nil, ErrNotTCP
	}
	v := &Socket{MPTCP: protocol == unix.IPPROTO_MPTCP}
	local, err := unix.Getsockname(s)
	if err != nil {
		return nil, err
	}
	v.Local = addrPort(local)
	if remote, err := unix.Getpeername(s); err == nil {
		v.Remote, v.Connected = addrPort(remote), true
	}
	flags, err := unix.FcntlInt(uintptr(s), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	v.NonBlocking = flags&unix.O_NONBLOCK != 0
	v.options(s)
	return v, nil
}

// options reads options that some kernels do not have. One that the kernel does not have is not set.
func (v *Socket) options(s int) {
	number := func(level, option, missing int) int {
		if n, err := unix.GetsockoptInt(s, level, option); err == nil {
			return n
		}
		return missing
	}
	v.NetNSCookie, _ = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	v.SocketCookie, _ = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_COOKIE)
	v.RcvLowat = number(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
	v.PeekOff = number(unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1)
	v.ZeroCopy = number(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 0) != 0
	v.Inq = number(unix.IPPROTO_TCP, unix.TCP_INQ, 0) != 0
	v.Repair = number(unix.IPPROTO_TCP, unix.TCP_REPAIR, 0) == 1
	for _, option := range []int{unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPING} {
		v.Stamps = v.Stamps || number(unix.SOL_SOCKET, option, 0) != 0
	}
	// SO_GET_FILTER returns the number of instructions in length. With a length of 0 it copies none of them.
	var length uint32
	v.Filter = getFilter(s, &length) && length > 0
	if info, err := unix.GetsockoptTCPInfo(s, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		v.TCPState = info.State
	}
	if ulp, err := unix.GetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_ULP); err == nil {
		v.ULP = strings.TrimRight(ulp, "\x00")
	}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func getFilter(s int, length *uint32) bool {
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), unix.SOL_SOCKET, unix.SO_GET_FILTER, 0,
		uintptr(unsafe.Pointer(length)), 0)
	return errno == 0
}
