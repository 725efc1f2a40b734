// SPDX-License-Identifier: Apache-2.0

// Package containerd runs the real containerd, its shim and runc, and asks for pods as the kubelet does, with
// a network that has sockmap in its chain. Real programs in the containers exchange bytes that both ends
// compare, and the data path counts which way they took.
//
// It needs root, runc and unshare (test/setup.sh containerd); containerd and the CRI's client are built from
// the module tools the first time.
package containerd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

func TestMain(m *testing.M) {
	if err := setUpTools(); err != nil {
		fmt.Fprintln(os.Stderr, "The tests of containerd cannot run:", err)
		os.Exit(1)
	}
	forgetReport()
	if err := podcgroup.Reap(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	podcgroup.RemoveMadeParents()
	code := labtest.Run(m)
	podcgroup.RemoveMadeParents()
	left := lab.RuntimeResidue(lab.Prefix + labtest.Name())
	cgroups, err := podcgroup.OfPods(podcgroup.OwnUIDs())
	if left = append(left, cgroups...); err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind: %v\n%s\n", err, strings.Join(left, "\n"))
		code = max(code, 1)
	}
	if err := writeReport(code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
