// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hogVariable makes this program a process that holds as many bytes of memory as it says, until its input
// ends.
const hogVariable = "SOCKMAP_TEST_HOLD_BYTES"

func init() {
	text := os.Getenv(hogVariable)
	if text == "" {
		return
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

const (
	memoryOfReaders = 4 << 20 // in addition to their sockets; nothing of it can be reclaimed
	roomForSockets  = 5 << 19 // less than twenty first windows and what the verdict leaves free
)

// unifiedMemory makes a cgroup of version 2 with a process of the readers in it. nested: the limit is that of
// its parent.
func unifiedMemory(t *testing.T, nested bool) (m *memoryGroup, limited string) {
	t.Helper()
	mount := cgroupMount(t)
	if b, err := os.ReadFile(mount + "/cgroup.controllers"); err != nil ||
		!strings.Contains(string(b), "memory") {
		lacking(t, "cgroup v2 has no memory controller: %q, %v", b, err)
	}
	putFile(t, mount+"/cgroup.subtree_control", "+memory")
	limited, err := os.MkdirTemp(mount, "sockmap-memory-")
	if err != nil {
		t.Fatal(err)
	}
	removeLater(t, limited)
	dir := limited
	if nested {
		putFile(t, limited+"/cgroup.subtree_control", "+memory")
		dir = filepath.Join(limited, "readers")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		removeLater(t, dir)
	}
	hold(t, dir)
	return &memoryGroup{dir: dir, home: mount, usage: "memory.current"}, limited
}

// hold starts a process in the cgroup that has used memoryOfReaders when it returns.
func hold(t *testing.T, cgroup string) {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hogVariable+"="+strconv.Itoa(memoryOfReaders))
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait() // it may have been killed, which is for the test to judge
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the process of the readers said %q, %v", line, err)
	}
}

// limitTo lets the cgroup have this much more than it has now.
func limitTo(t *testing.T, dir string, more int) {
	t.Helper()
	m := memoryGroup{dir: dir, usage: "memory.current"}
	putFile(t, dir+"/memory.max", strconv.Itoa(m.charged(t)+more))
}

// killed counts what the kernel killed below a cgroup for want of memory.
func killed(t *testing.T, dir string) (n int) {
	t.Helper()
	b, err := os.ReadFile(dir + "/memory.events")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no oom_kill in %q", b)
	return 0
}

// As with version 1. But with version 2 the charge of a redirected message would first kill the reader's
// processes, and then fail. The kernel may kill them while they read, which is no fault of the programs: a
// read accepts bytes that came over TCP meanwhile, and their charge may do that.
func TestReaderAtItsPodsLimitHoldsSendersBack(t *testing.T) {
	for _, nested := range []bool{false, true} {
		t.Run(fmt.Sprintf("nested %v", nested), func(t *testing.T) {
			var limited string
			place := func(t *testing.T) (m *memoryGroup) {
				m, limited = unifiedMemory(t, nested)
				m.limit = func() { limitTo(t, limited, roomForSockets) }
				return m
			}
			check := func(t *testing.T) {
				if n := killed(t, limited); n != 0 {
					t.Errorf("%d processes of the readers were killed", n)
				}
			}
			sizes := []int{64 << 10}
			if nested {
				sizes = []int{100, 4 << 10, 512 << 10}
			}
			limitCases(t, sizes, place, check)
		})
	}
}

func TestManySendersToOnePodsLimitSeeHardlyAnError(t *testing.T) {
	mixedCases(t, func(t *testing.T, _ int) *memoryGroup {
		m, limited := unifiedMemory(t, true)
		m.limit = func() { limitTo(t, limited, roomForSockets) }
		return m
	})
}

// tcpMem returns three numbers. The second leaves some 3.4 MB in addition to the 2048 pages that bpf/memory.h
// keeps free: less than the first windows, and more than the memory that two CPUs have not given back yet.
// The third is larger than the second by the size of so many pages of 4 KiB.
func tcpMem(page, above int) string {
	of := func(small int) int { return small * 4096 / page }
	pressure := 2048 + of(852)
	return fmt.Sprint(pressure-of(900), pressure, pressure+of(above))
}

func TestTCPMemIsScaledToThePageSize(t *testing.T) {
	for page, want := range map[int]string{4096: "2000 2900 3156", 16384: "2036 2261 2325"} {
		if got := tcpMem(page, 256); got != want {
			t.Errorf("pages of %d: %s, want %s", page, got, want)
		}
	}
}

// A node that is over the second number of tcp_mem refuses what is above a fair share, one over the third
// refuses all.
func TestNodeOverTCPMemHoldsSendersBack(t *testing.T) {
	if !inGuest() {
		t.Skip("tcp_mem is the whole kernel's: only in a guest of test/vm")
	}
	const path = "/proc/sys/net/ipv4/tcp_mem"
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, pages := range map[string]string{
		"pressure": tcpMem(os.Getpagesize(), 1000), "hard limit": tcpMem(os.Getpagesize(), 256),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if err := os.WriteFile(path, was, 0); err != nil {
					t.Error(err)
				}
			}()
			limitCases(t, []int{64 << 10}, func(t *testing.T) *memoryGroup {
				return &memoryGroup{limit: func() { putFile(t, path, pages) }}
			}, nil)
		})
	}
}
