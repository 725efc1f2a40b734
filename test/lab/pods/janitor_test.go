// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// victimVariable is the environment variable that makes the test's own program make a node and wait to be
// killed.
const victimVariable = "SOCKMAP_BENCH_VICTIM"

func TestMain(m *testing.M) {
	Main()
	if os.Getenv(victimVariable) != "" {
		victim()
	}
	fixture.Main(m)
}

func victim() {
	_, err := Watch()
	if err == nil {
		_, err = lab.NewNode(context.Background(), lab.Options{Name: NodeName()})
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func TestNothingIsLeftOfAKilledBenchmark(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed")
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), victimVariable+"=1")
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("bench%d-", c.Process.Pid)
	line, err := bufio.NewReader(out).ReadString('\n')
	there, _ := lab.Residue(name)
	_ = c.Process.Kill()
	_ = c.Wait()
	if err != nil || line != "<nil>\n" || len(there) == 0 {
		t.Fatalf("it printed %q, %v, and made %v", line, err, there)
	}
	if !fixture.Within(fixture.Patience, func() bool {
		there, err = lab.Residue(name)
		return err == nil && len(there) == 0
	}) {
		t.Errorf("left: %v, %v", there, err)
	}
}
