// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"golang.org/x/sys/unix"
)

// outcome is what one probe saw. The zero value: the kernel does not have the hazard.
type outcome struct {
	present, guarded bool
	seen             string
}

func fine(format string, args ...any) outcome {
	return outcome{seen: fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) outcome {
	return outcome{present: true, seen: fmt.Sprintf(format, args...)}
}

func guarded(format string, args ...any) outcome {
	return outcome{guarded: true, seen: fmt.Sprintf(format, args...)}
}

// probes has the probe of each hazard of hazard.Table, by its name.
var probes = map[string]func() (outcome, error){
	"splice":              probeSplice,
	"fionread-redirected": probeInqRedirected,
	"fionread-tcp":        probeInqTCP,
	"zerocopy":            probeZerocopy,
	"memory-charge":       probeMemoryCharge,
	"ktls":                probeULP,
	"mptcp":               probeMPTCP,
	"backpressure":        probeBackpressure,
	"fin":                 probeFIN,
	"epoll-edge":          probeEdge,
	"eagain":              probeInterruptedRead,
	"edge-mixed":          probeMixedEdge,
}

// run runs the probes of these hazards, or of all.
func run(names []string) (hazard.Findings, error) {
	// Probes send signals to the thread that blocks in a system call, so it must stay the same thread.
	runtime.LockOSThread()
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	var findings hazard.Findings
	for _, h := range hazard.Table {
		if len(names) > 0 && !slices.Contains(names, h.Name) {
			continue
		}
		start := time.Now()
		one := probes[h.Name]
		if one == nil {
			return nil, fmt.Errorf("hazard %s has no probe", h.Name)
		}
		o, err := confirmed(one)
		if err != nil {
			return nil, fmt.Errorf("probe %s: %w", h.Name, err)
		}
		findings = append(findings, hazard.Finding{
			Name: h.Name, Present: o.present, Guarded: o.guarded, Seen: o.seen, Nanos: time.Since(start).Nanoseconds(),
		})
	}
	return findings, nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (run as root, or with CAP_NET_ADMIN)", err)
		}
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// on runs a probe on a pair whose bytes are redirected.
func on(f func(p pair) (outcome, error)) (outcome, error) {
	p, err := redirected()
	if err != nil {
		return outcome{}, err
	}
	defer p.close()
	return f(p)
}

func probeSplice() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return outcome{}, fmt.Errorf("make pipe: %w", err)
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		if err := p.write(100); err != nil {
			return outcome{}, err
		}
		p.await()
		n, err := unix.Splice(p.reader, nil, pipe[1], nil, 4096, unix.SPLICE_F_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINVAL):
			return guarded("splice of 100 waiting bytes is refused: EINVAL"), nil
		case err != nil || n != 100:
			return bad("splice of 100 waiting bytes moves %d: %v", n, err), nil
		}
		return fine("splice moves 100 waiting bytes"), nil
	})
}

func probeInqRedirected() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		return inqOf(p, 1000)
	})
}

// inqOf writes size bytes and compares them with the answer of FIONREAD.
func inqOf(p pair, size int) (outcome, error) {
	if err := p.write(size); err != nil {
		return outcome{}, err
	}
	p.await()
	n, err := p.inq()
	if err != nil {
		return outcome{}, fmt.Errorf("ask FIONREAD: %w", err)
	}
	if n != size {
		return bad("FIONREAD says %d of %d bytes", n, size), nil
	}
	return fine("FIONREAD says %d of %d bytes", n, size), nil
}

// probeInqTCP is the same for bytes over TCP: the programs do not redirect to a reader with SO_RCVLOWAT above
// 1.
func probeInqTCP() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		if err := unix.SetsockoptInt(p.reader, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2); err != nil {
			return outcome{}, fmt.Errorf("set SO_RCVLOWAT: %w", err)
		}
		return inqOf(p, 1000)
	})
}

func probeZerocopy() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		err := unix.SetsockoptInt(p.writer, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return guarded("SO_ZEROCOPY on a paired socket is refused: EOPNOTSUPP"), nil
		}
		if err != nil {
			return outcome{}, fmt.Errorf("set SO_ZEROCOPY: %w", err)
		}
		if err := unix.Sendto(p.writer, make([]byte, 4096), unix.MSG_ZEROCOPY, nil); err != nil {
			return outcome{}, fmt.Errorf("send with MSG_ZEROCOPY: %w", err)
		}
		if err := p.read(4096); err != nil {
			return outcome{}, err
		}
		if !pollFor(p.writer, 0) { // poll reports POLLERR even if no event is requested
			return bad("no completion of a MSG_ZEROCOPY send"), nil
		}
		return fine("a MSG_ZEROCOPY send is completed"), nil
	})
}

func probeMemoryCharge() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		const size = 64 << 10
		if err := p.write(size); err != nil {
			return outcome{}, err
		}
		p.await()
		n, err := p.charged()
		if err != nil {
			return outcome{}, err
		}
		if n < size {
			return bad("%d bytes wait, the reader is charged for %d", size, n), nil
		}
		return fine("%d bytes wait, the reader is charged for %d", size, n), nil
	})
}

func probeULP() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		err := unix.SetsockoptString(p.writer, unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
		switch {
		case err == nil:
			return bad("a paired socket can get an upper-layer protocol"), nil
		case !hasTLS():
			// A kernel without the module returns the same error as the guard, so it proves no guard.
			return fine("no kTLS on this kernel"), nil
		}
		return guarded("an upper-layer protocol on a paired socket is refused: %v", err), nil
	})
}

// hasTLS uses a socket that is not connected, which guards ignore. The kernel looks for the protocol (ENOENT
// if it has none) before it checks that the socket is connected.
func hasTLS() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return !errors.Is(unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls"), unix.ENOENT)
}

func probeBackpressure() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		const enough = 64 << 20
		chunk := make([]byte, 256<<10)
		for sent := 0; sent < enough; {
			n, err := unix.Write(p.writer, chunk)
			if errors.Is(err, unix.EAGAIN) {
				return fine("a writer is stopped after %d KiB", sent>>10), nil
			}
			if err != nil {
				return outcome{}, fmt.Errorf("write: %w", err)
			}
			sent += n
		}
		return bad("a writer is not stopped by %d MiB of unread bytes", enough>>20), nil
	})
}

func probeFIN() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		if err := p.write(10_000); err != nil {
			return outcome{}, err
		}
		if err := unix.Shutdown(p.writer, unix.SHUT_WR); err != nil {
			return outcome{}, fmt.Errorf("shut down: %w", err)
		}
		if err := p.read(10_000); err != nil {
			return bad("before the end of the stream: %v", err), nil
		}
		p.await()
		if n, err := unix.Read(p.reader, make([]byte, 1)); n != 0 || err != nil {
			return bad("the end of the stream reads as %d bytes, %v", n, err), nil
		}
		return fine("all bytes, then the end of the stream"), nil
	})
}

func probeEdge() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		e, err := watch(p.reader)
		if err != nil {
			return outcome{}, err
		}
		defer e.close()
		for i := range 3 {
			if err := p.write(10); err != nil {
				return outcome{}, err
			}
			if woken, err := e.came(wait); err != nil || !woken {
				return bad("message %d gives no event, %v", i, err), nil
			}
		}
		return fine("an event for each of 3 messages"), nil
	})
}
