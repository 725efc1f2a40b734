// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// makerEnv makes this program a socket maker. Its value is ignored.
const makerEnv = "CONFORMANCE_SOCKET_MAKER"

// makerSocket is the number of the first descriptor in exec.Cmd.ExtraFiles of a child.
const makerSocket = 3

// RunMaker makes sockets and does not return, if this process was started as a maker. Programs that open a
// site must call it first.
func RunMaker() {
	if _, ok := os.LookupEnv(makerEnv); !ok {
		return
	}
	serveMaker()
	os.Exit(0)
}

// request and reply are fixed arrays, because both sides are the same program.
const requestSize, replySize = 3 * 4, 4 + 8

// serveMaker replies to each request with an errno, the netns cookie and, if there is one, the socket, until
// the parent closes the connection.
func serveMaker() {
	if err := setUpLoopback(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var request [requestSize]byte
	for {
		n, err := unix.Read(makerSocket, request[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != requestSize {
			return
		}
		var args [3]int
		for i := range args {
			args[i] = int(int32(binary.NativeEndian.Uint32(request[4*i:])))
		}
		if err := answer(args[0], args[1], args[2]); err != nil {
			return
		}
	}
}

func answer(domain, typ, proto int) error {
	var reply [replySize]byte
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		binary.NativeEndian.PutUint32(reply[:], uint32(errno))
		return unix.Sendmsg(makerSocket, reply[:], nil, nil, 0)
	}
	defer unix.Close(fd)
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
		binary.NativeEndian.PutUint64(reply[4:], cookie)
	}
	return unix.Sendmsg(makerSocket, reply[:], unix.UnixRights(fd), nil, 0)
}

// A Maker is a process that makes sockets in its network namespace and cgroup.
type Maker struct {
	cmd  *exec.Cmd
	conn int
	mu   sync.Mutex // one request at a time
}

// startMaker starts this program again, by start.
func startMaker(start func(*exec.Cmd) error) (_ *Maker, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "maker")
	defer theirs.Close()
	defer func() {
		if err != nil {
			unix.Close(ends[0])
		}
	}()
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), makerEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("start socket maker: %w", err)
	}
	return &Maker{cmd: cmd, conn: ends[0]}, nil
}

// Socket makes a socket in the maker's network namespace and cgroup. Errors are unix.Errno.
func (m *Maker) Socket(domain, typ, proto int) (fd int, err error) {
	fd, _, err = m.request(domain, typ, proto)
	return fd, err
}

// cookie is the netns cookie of the maker's network namespace.
func (m *Maker) cookie() (uint64, error) {
	fd, cookie, err := m.request(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	unix.Close(fd)
	return cookie, nil
}

func (m *Maker) request(args ...int) (fd int, cookie uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var request []byte
	for _, arg := range args {
		request = binary.NativeEndian.AppendUint32(request, uint32(int32(arg)))
	}
	if err := unix.Sendmsg(m.conn, request, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return -1, 0, fmt.Errorf("send a request to the socket maker: %w", err)
	}
	var reply [replySize]byte
	control := make([]byte, unix.CmsgSpace(4))
	n, controlLen, _, _, err := recvmsg(m.conn, reply[:], control)
	if err != nil || n != replySize {
		return -1, 0, fmt.Errorf("hear from socket maker: %d bytes, %w", n, err)
	}
	if errno := unix.Errno(binary.NativeEndian.Uint32(reply[:])); errno != 0 {
		return -1, 0, errno
	}
	fd, err = rights(control[:controlLen])
	return fd, binary.NativeEndian.Uint64(reply[4:]), err
}

func recvmsg(fd int, b, control []byte) (n, controlLen, flags int, from unix.Sockaddr, err error) {
	for {
		n, controlLen, flags, from, err = unix.Recvmsg(fd, b, control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return n, controlLen, flags, from, err
		}
	}
}

func rights(control []byte) (fd int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("read descriptor of socket maker: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("read descriptor of socket maker: %d descriptors, %w", len(fds), err)
	}
	return fds[0], nil
}

// Close ends the process.
func (m *Maker) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn < 0 {
		return nil
	}
	unix.Close(m.conn)
	m.conn = -1
	return m.cmd.Wait()
}
