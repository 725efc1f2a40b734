// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// errNoLSM: some kernels load and attach LSM programs, but never call them.
var errNoLSM = errors.New("LSM programs do not run on this kernel: bpf is not among its security modules " +
	"(lsm=)")

// tryLSM attaches a program to a rare hook, causes a call of it, and checks whether the program ran.
func (s source) tryLSM() error {
	l, err := s.attachTracing(hook{bpf.GuardProgSayThatLsmRuns, lsmPrefix + "socket_shutdown"})
	if err != nil {
		return err
	}
	defer l.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make sockets to try LSM programs with: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.Shutdown(pair[0], unix.SHUT_RD); err != nil {
		return fmt.Errorf("try LSM programs: %w", err)
	}
	const nobody = uint64(0) // of no task
	if err := s.maps[bpf.GuardMapAnswers].Delete(nobody); errors.Is(err, ebpf.ErrKeyNotExist) {
		return errNoLSM
	} else if err != nil {
		return fmt.Errorf("ask whether LSM programs run: %w", err)
	}
	return nil
}
