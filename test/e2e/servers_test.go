// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// serverPair is a client pod, and a server pod in which a program of Debian runs until the test ends.
func serverPair(t *testing.T, cmd func(dir string, server *lab.Pod) *exec.Cmd) (
	w *world, client, server *lab.Pod) {
	t.Helper()
	w = newWorld(t, nil)
	client, server = w.pod(lab.PodSpec{Name: "client"}), w.pod(lab.PodSpec{Name: "server"})
	dir, err := os.MkdirTemp("", "sockmap-e2e-") // a path that other users can enter, unlike t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	c := cmd(dir, server)
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := server.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if t.Failed() {
			t.Logf("log of the server: %s", log.Bytes())
		}
	})
	return w, client, server
}

// reachable waits until the server accepts connections.
func reachable(t *testing.T, client *lab.Pod, address string) {
	t.Helper()
	fixture.Wait(t, address+" accepts connections", func() bool {
		c, err := client.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func output(t *testing.T, p *lab.Pod, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := p.Command(ctx, name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &complaint
	if err := p.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, complaint.Bytes())
	}
	return out.Bytes()
}

func (w *world) wantMostlyRedirected() {
	w.Helper()
	w.wantRedirected(0.5)
}

func (w *world) wantRedirected(share float64) {
	w.Helper()
	d := w.datapath()
	eventually(w.T, "enough sockets have closed", func() bool {
		return totals(w.T, d).RedirectedBytes > megabyte
	})
	sums := totals(w.T, d)
	if all := sums.TCPBytes + sums.RedirectedBytes; float64(sums.RedirectedBytes) < share*float64(all) {
		w.Errorf("%d bytes over TCP, %d redirected: less than %.0f %%",
			sums.TCPBytes, sums.RedirectedBytes, 100*share)
	}
}

func randomBytes(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestRedis(t *testing.T) {
	w, client, server := serverPair(t, func(dir string, server *lab.Pod) *exec.Cmd {
		return server.Command(t.Context(), "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save",
			"",
			"--dir", dir)
	})
	reachable(t, client, at(server.IP4(), 6379))
	host := server.IP4().String()
	for _, pipeline := range []string{"1", "16"} {
		output(t, client, nil, "redis-benchmark", "-h", host, "-t", "set,get", "-n", "5000", "-c", "20", "-P",
			pipeline,
			"-d", "100", "-q")
	}
	w.wantMostlyRedirected()
	// More than the first window, so some of it uses TCP if the reader is late.
	want := []byte(fmt.Sprintf("%x", randomBytes(megabyte)))
	output(t, client, want, "redis-cli", "-h", host, "-x", "set", "key")
	got := output(t, client, nil, "redis-cli", "-h", host, "--raw", "get", "key")
	if !bytes.Equal(bytes.TrimSuffix(got, []byte("\n")), want) {
		t.Errorf("the value of %d bytes came back as other %d bytes", len(want), len(got))
	}
}

// With sendfile TCP sends pages without a copy, so the flow leaves the sockhash; without sendfile, it is
// redirected.
func TestNginxSendsAFile(t *testing.T) {
	t.Run("sendfile on", func(t *testing.T) {
		nginxSendsAFile(t, "on", func(w *world) {
			d := w.datapath()
			eventually(t, "both ends have left", func() bool {
				left := 0
				if err := d.Flows(func(f datapath.Flow) bool {
					if f.Left {
						left++
					}
					return true
				}); err != nil {
					t.Fatal(err)
				}
				return left == 2
			})
		})
	})
	t.Run("sendfile off", func(t *testing.T) {
		w := nginxSendsAFile(t, "off", func(*world) {})
		// How often a writer without pauses finds that the reader has read everything depends on the
		// scheduler: with sendfile, it never does.
		w.wantRedirected(0.05)
	})
}

// nginxSendsAFile sends a file five times on one connection, and calls check before that is closed.
func nginxSendsAFile(t *testing.T, sendfile string, check func(*world)) *world {
	t.Helper()
	content := randomBytes(20 * megabyte)
	w, client, server := serverPair(t, func(dir string, server *lab.Pod) *exec.Cmd {
		conf := fmt.Sprintf("daemon off; error_log stderr; pid %[1]s/pid; events {} http { access_log off; sendfile %[2]s; "+
			"client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; "+
			"scgi_temp_path %[1]s; server { listen 80; root %[1]s; } }", dir, sendfile)
		for name, b := range map[string][]byte{"nginx.conf": []byte(conf), "file": content} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return server.Command(t.Context(), "nginx", "-c", filepath.Join(dir, "nginx.conf"))
	})
	address := at(server.IP4(), 80)
	reachable(t, client, address)
	web := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return client.DialContext(ctx, network, addr)
		},
	}}
	defer web.CloseIdleConnections()
	for range 5 {
		r, err := web.Get("http://" + address + "/file")
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, io.LimitReader(r.Body, 1<<30))
		r.Body.Close()
		if want := sha256.Sum256(content); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Fatalf("got %d bytes, %v, of %d", n, err, len(content))
		}
	}
	check(w)
	web.CloseIdleConnections()
	return w
}

func TestPostgreSQL(t *testing.T) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL server (apt-get install postgresql)")
	}
	bin := found[len(found)-1]
	w, client, server := serverPair(t, func(dir string, server *lab.Pod) *exec.Cmd {
		data := filepath.Join(dir, "data")
		initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "postgres",
			"--no-sync")
		initdb.SysProcAttr = &syscall.SysProcAttr{Credential: postgres(t)}
		if out, err := initdb.CombinedOutput(); err != nil {
			t.Fatalf("initdb: %v: %s", err, out)
		}
		hba := "host all all 0.0.0.0/0 trust\n"
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := server.Command(t.Context(), filepath.Join(bin, "postgres"), "-D", data, "-h", "0.0.0.0", "-k", dir,
			"-c", "fsync=off")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: postgres(t)}
		return cmd
	})
	args := []string{"-h", server.IP4().String(), "-U", "postgres"}
	// It listens before it answers queries.
	eventually(t, "PostgreSQL takes connections", func() bool {
		ready := client.Command(t.Context(), filepath.Join(bin, "pg_isready"), "-q", "-h", server.IP4().String())
		return client.Start(ready) == nil && ready.Wait() == nil
	})
	pgbench := func(more ...string) {
		output(t, client, nil, filepath.Join(bin, "pgbench"),
			append(append(args[:len(args):len(args)], more...), "postgres")...)
	}
	pgbench("-i", "-s", "1", "-q")
	pgbench("-S", "-M", "prepared", "-c", "8", "-t", "300")
	pgbench("-c", "4", "-t", "50")
	w.wantMostlyRedirected()
}

// postgres is the user that runs the server, which refuses to run as root.
func postgres(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("%v (apt-get install postgresql)", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
