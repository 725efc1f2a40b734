// SPDX-License-Identifier: Apache-2.0

package place

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"golang.org/x/sys/unix"
)

// setUpLoopback brings lo up and allows Fast Open without cookies, which would need an earlier connection.
func setUpLoopback() error {
	if err := loopback.Up(); err != nil {
		return err
	}
	const clientAndServer, withoutCookies = 3, 4 | 0x200
	value := fmt.Sprint(clientAndServer | withoutCookies)
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte(value), 0); err != nil {
		return fmt.Errorf("allow fast open: %w", err)
	}
	return nil
}

// inNetNSOf runs f on a thread that is in the network namespace of a process.
func inNetNSOf(pid int, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer func() {
		if herr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); herr != nil {
			// Never unlocked: the thread ends with the goroutine.
			err = errors.Join(err, fmt.Errorf("return to own network namespace: %w", herr))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}
