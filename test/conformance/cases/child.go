// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// childEnv makes this program one of the processes of a case. Its value is the role and the arguments.
const childEnv = "CONFORMANCE_ROLE"

// inherited is the number of the first descriptor that a child inherits.
const inherited = 3

// roles are what children do with inherited descriptors, or with their own connections.
var roles = map[string]func(args []string) error{
	"read":     childRead,
	"write":    childWrite,
	"echo":     childEcho,
	"received": childReceived,
	"flood":    childFlood,
	"sleep":    func([]string) error { fmt.Println("ready"); time.Sleep(time.Minute); return nil },
	"pipe":     childPipe,

	"flood-pipe": childFloodPipe,

	"go-serve": goServe,
	"go-dial":  goDial,
	"go-proxy": goProxy,
}

// RunChild runs the role and does not return, if this process was started as a child. Programs that run cases
// must call it first.
func RunChild() {
	line, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	args := strings.Fields(line)
	role := roles[args[0]]
	if role == nil {
		fmt.Fprintf(os.Stderr, "play role %q: no such role\n", args[0])
		os.Exit(2)
	}
	if err := role(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns the command that starts this program in a role.
func child(t *T, side place.Side, files []*Sock, role string, args ...any) *suite.Process {
	line := role + " " + strings.TrimSpace(fmt.Sprintln(args...))
	return t.Start(side, suite.Command{Name: "/proc/self/exe", Env: []string{childEnv + "=" + line},
		Files: files})
}

// childRead reads and prints this number of bytes, or all until the end without a number.
func childRead(args []string) error {
	fmt.Println("ready")
	n := 1 << 30
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	var got []byte
	buf := make([]byte, 64<<10)
	for len(got) < n {
		r, err := read(inherited, buf[:min(n-len(got), len(buf))])
		if err != nil {
			fmt.Println(suite.Text(got), suite.Errno(err))
			return nil
		}
		if r == 0 {
			break
		}
		got = append(got, buf[:r]...)
	}
	fmt.Println(suite.Text(got), "ok")
	return nil
}

// read waits as the inherited descriptor does. It passes EAGAIN on from a descriptor that waits in the
// kernel, which must not return it.
func read(fd int, b []byte) (n int, err error) {
	return n, await(fd, unix.POLLIN, func() error { n, err = unix.Read(fd, b); return err })
}

// write is read's counterpart for writing.
func write(fd int, b []byte) (n int, err error) {
	return n, await(fd, unix.POLLOUT, func() error { n, err = unix.Write(fd, b); return err })
}

// childPatience is how long a child waits by poll(2). Its parent waits longer.
const childPatience = 5 * time.Second

// await repeats interrupted calls, and, after poll(2), calls that returned EAGAIN.
func await(fd int, events int16, call func() error) (err error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	end := time.Now().Add(suite.ChildScaled(childPatience))
	for {
		err = call()
		polls := flags&unix.O_NONBLOCK != 0 && errors.Is(err, unix.EAGAIN)
		if !polls && !errors.Is(err, unix.EINTR) {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return err
		}
		if polls {
			p := []unix.PollFd{{Fd: int32(fd), Events: events}}
			if _, err := unix.Poll(p, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
}

func childWrite(args []string) error {
	n, err := write(inherited, []byte(strings.Join(args, " ")))
	fmt.Println(n, suite.Errno(err))
	return nil
}

func childEcho([]string) error {
	fmt.Println("ready")
	return echo(inherited)
}

func echo(fd int) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := read(fd, buf)
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) > 0; b = b[n:] {
			if n, err = write(fd, b); err != nil {
				return err
			}
		}
	}
}

// childReceived receives a socket by SCM_RIGHTS and echoes on it.
func childReceived([]string) error {
	fmt.Println("ready")
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(inherited, make([]byte, 1), control, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	return echo(fds[0])
}

// childFlood writes the pattern of seed 60 repeatedly, until it is killed, or once if there is an argument.
func childFlood(args []string) error {
	b := pattern(100_000, 60)
	for {
		for left := b; len(left) > 0; {
			n, err := write(inherited, left)
			if err != nil {
				return err
			}
			left = left[n:]
		}
		if len(args) > 0 {
			return nil
		}
	}
}

// childPipe writes without MSG_NOSIGNAL and prints whether SIGPIPE came.
func childPipe([]string) error {
	pipe := make(chan os.Signal, 8)
	signal.Notify(pipe, syscall.SIGPIPE)
	for range 4 {
		_, err := unix.Write(inherited, []byte("hello"))
		fmt.Print(suite.Errno(err), " ")
		time.Sleep(20 * time.Millisecond)
	}
	told(pipe)
	return nil
}

// childFloodPipe writes until it fails, and prints the error and whether SIGPIPE came. Most programs die of
// SIGPIPE.
func childFloodPipe([]string) error {
	pipe := make(chan os.Signal, 8)
	signal.Notify(pipe, syscall.SIGPIPE)
	fmt.Print(suite.Errno(childFlood(nil)), " ")
	told(pipe)
	return nil
}

func told(signals chan os.Signal) {
	select {
	case <-signals:
		fmt.Println("SIGPIPE")
	case <-time.After(100 * time.Millisecond):
		fmt.Println("no signal")
	}
}
