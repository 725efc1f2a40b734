// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// The agent as a process, from its flags to its end by a signal.
func TestTheAgentRunsUntilItIsTerminated(t *testing.T) {
	n, root := newTestNode(t), t.TempDir()
	bin, conf := filepath.Join(root, "bin"), filepath.Join(root, "net.d")
	list := filepath.Join(conf, "10-net.conflist")
	const text = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"}]}`
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Mkdir(conf, 0o755),
		os.WriteFile(list, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := program(n.dir, "agent", "--plugin", filepath.Join(labtest.Plugins(t), "sockmap"), "--cni-bin-dir",
		bin,
		"--cni-conf-dir", conf, "--listen", "[127.0.0.1]:0", "--log-format", "json", "--config",
		`{"maxSockets":999}`,
		"--accept-hazards", "all", "--uninstall-on-exit", "--cni-cache-dir", "", "--reap-interval", "1s")
	var log fixture.Output
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	address := func() (at string) {
		for _, record := range log.Records(t, "serving /metrics, /healthz and /readyz") {
			at, _ = record["address"].(string)
		}
		return at
	}
	eventually(t, "it serves", func() bool { return address() != "" })
	eventually(t, "it is ready", func() bool {
		response, err := http.Get("http://" + address() + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	if got, err := os.ReadFile(list); err != nil || !strings.Contains(string(got), `"maxSockets":999`) {
		t.Errorf("the list: %v, %s", err, got)
	}
	d := n.open(t)
	if cfg, err := d.Config(); err != nil || cfg.MaxSockets != 999 {
		t.Errorf("loaded with %+v, %v", cfg, err)
	}
	d.Close()
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, &log)
	}
	if got, err := os.ReadFile(list); err != nil || string(got) != text {
		t.Errorf("in the end the list is: %v, %s", err, got)
	}
	if r := n.run(t, "status"); r.code != exitNotLoaded {
		t.Errorf("in the end status has the exit code %d", r.code)
	}
}

func TestIncompleteScrapeIsLoggedOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	tell := incomplete(slog.New(slog.NewTextHandler(&log, nil)))
	for _, err := range []error{datapath.ErrNotLoaded, errors.New("one"), errors.New("one"), errors.New("two"),
		errors.New("two")} {
		tell(err)
	}
	if n := strings.Count(log.String(), "a scrape is incomplete"); n != 2 {
		t.Errorf("it was logged %d times:\n%s", n, log.String())
	}
}
