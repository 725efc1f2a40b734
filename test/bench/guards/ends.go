// SPDX-License-Identifier: Apache-2.0

package guards

import (
	"errors"
	"fmt"
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"golang.org/x/sys/unix"
)

// pipeSize has a slot for each call of a batch, because splice(2) does not merge the bytes that it moves.
const pipeSize = 4 * batch << 12

// allCalls makes what the calls need; it lives as long as the process. settled reports whether the redirected
// connection still is one.
func allCalls() (calls []call, settled func() error, err error) {
	if err := loopback.Up(); err != nil {
		return nil, nil, err
	}
	plain, err := connection(true)
	if err != nil {
		return nil, nil, err
	}
	// Without the data path this connection is plain TCP, too: it makes the same calls, for comparison.
	redirected, err := connection(false)
	if err != nil {
		return nil, nil, err
	}
	one, err := newPipe()
	if err != nil {
		return nil, nil, err
	}
	two, err := newPipe()
	if err != nil {
		return nil, nil, err
	}
	file, err := onFile()
	if err != nil {
		return nil, nil, err
	}
	calls = onPair("tcp", plain[0], plain[1])
	calls = append(calls, onPair("redirected", redirected[0], redirected[1])...)
	calls = append(calls, onPipe(one[1], one[0])...)
	calls = append(calls, file...)
	calls = append(calls, splice("splice pipe-pipe", one[1], one[0], two),
		splice("splice socket-pipe", plain[0], plain[1], two))
	calls = append(calls, options("", plain[0])...)
	calls = append(calls, options("redirected ", redirected[0])...)
	return calls, func() error { return settle(redirected, os.Getenv(redirectVariable) != "") }, nil
}

// splice moves filler's bytes from from into the pipe. From a redirected socket it moves none, with and
// without a guard.
func splice(name string, filler, from int, pipe [2]int) call {
	return call{name, fill(filler, from), drain(pipe[0]), func() error {
		return raw(unix.SYS_SPLICE, from, 0, uintptr(pipe[1]), 0, size, unix.SPLICE_F_NONBLOCK, size)
	}}
}

func newPipe() (p [2]int, err error) {
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return p, fmt.Errorf("make pipe: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		return p, fmt.Errorf("set size of pipe: %w", err)
	}
	return p, nil
}

// connection is a connection over loopback. It is redirected if the data path is loaded and it should be. One
// that must stay plain has an option while it connects that only TCP honours.
func connection(plain bool) (ends [2]int, err error) {
	const flags = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(unix.AF_INET, flags&^unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return ends, fmt.Errorf("make listener: %w", err)
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(listener, 1)); err != nil {
		return ends, fmt.Errorf("listen: %w", err)
	}
	addr, err := unix.Getsockname(listener)
	if err != nil {
		return ends, fmt.Errorf("read the listener's address: %w", err)
	}
	if ends[0], err = unix.Socket(unix.AF_INET, flags, 0); err != nil {
		return ends, fmt.Errorf("make socket: %w", err)
	}
	set := func(value int) error {
		if !plain {
			return nil
		}
		return unix.SetsockoptInt(ends[0], unix.SOL_SOCKET, unix.SO_ZEROCOPY, value)
	}
	if err := set(1); err != nil {
		return ends, fmt.Errorf("set SO_ZEROCOPY: %w", err)
	}
	if err := unix.Connect(ends[0], addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return ends, fmt.Errorf("connect: %w", err)
	}
	if ends[1], _, err = unix.Accept4(listener, flags&^unix.SOCK_STREAM); err != nil {
		return ends, fmt.Errorf("accept: %w", err)
	}
	if err := set(0); err != nil {
		return ends, fmt.Errorf("set SO_ZEROCOPY: %w", err)
	}
	for _, end := range ends {
		if err := unix.SetsockoptInt(end, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return ends, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	return ends, settle(ends, !plain && os.Getenv(redirectVariable) != "")
}

// redirectVariable is the environment variable of the child that is set if the data path is loaded.
const redirectVariable = "GUARD_BENCH_REDIRECTS"

// settle exchanges messages until it is decided how the pair sends, and checks that this is the wanted way.
func settle(ends [2]int, redirect bool) error {
	for range 2 {
		if err := errors.Join(fill(ends[0], ends[1])(), drain(ends[1])()); err != nil {
			return err
		}
	}
	before, err := delivered(ends[0])
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ends[0], ends[1])(), drain(ends[1])()); err != nil {
		return err
	}
	after, err := delivered(ends[0])
	if err != nil {
		return err
	}
	if byTCP := after - before; (byTCP == 0) != redirect {
		return fmt.Errorf("%d segments used TCP; should the connection be redirected? %v", byTCP, redirect)
	}
	return nil
}

// delivered counts the segments that TCP has sent and that were acknowledged. Redirected bytes are not among
// them, even where a guard adds them to the number of bytes.
func delivered(fd int) (uint64, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, fmt.Errorf("read the number of segments: %w", err)
	}
	return uint64(info.Delivered), nil
}
