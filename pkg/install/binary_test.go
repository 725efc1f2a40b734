// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
	"golang.org/x/sys/unix"
)

func mustInstallBinary(p *place) bool {
	p.Helper()
	changed, err := p.InstallBinary(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return changed
}

func (p *place) expectBinary() {
	p.Helper()
	want, errWant := os.ReadFile(p.Source)
	got, errGot := os.ReadFile(p.Binary())
	st, errStat := os.Stat(p.Binary())
	if err := errors.Join(errWant, errGot, errStat); err != nil {
		p.Fatal(err)
	}
	if !bytes.Equal(want, got) || st.Mode() != 0o755 {
		p.Errorf("the binary has %d bytes and mode %v, want %d bytes", len(got), st.Mode(), len(want))
	}
	p.expectNoLeftovers()
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestTheBinaryIsCopiedOnce(t *testing.T) {
	old := unix.Umask(0o077) // the umask of the caller must not matter
	defer unix.Umask(old)
	p := newPlace(t)
	if !mustInstallBinary(p) {
		t.Error("nothing was copied")
	}
	p.expectBinary()
	first := inode(t, p.Binary())
	p.copied = [2]fileID{} // as another process
	for range 2 {
		if mustInstallBinary(p) || inode(t, p.Binary()) != first {
			t.Error("an identical file was copied again")
		}
	}
}

func TestDamagedBinaryIsRepaired(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"mode":    func(path string) error { return os.Chmod(path, 0o644) },
		"content": func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755) },
		"cut":     func(path string) error { return os.Truncate(path, 1000) },
		"removed": os.Remove,
		"one byte": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			var b [1]byte
			_, errRead := f.ReadAt(b[:], 100000)
			b[0]++
			_, errWrite := f.WriteAt(b[:], 100000)
			return errors.Join(errRead, errWrite, f.Close())
		},
		"stub": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("\nsockmap-cni: uninstalled\n")
			return errors.Join(err, f.Close())
		},
		"link": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/bin/true", path)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			mustInstallBinary(p)
			if err := harm(p.Binary()); err != nil {
				t.Fatal(err)
			}
			if !mustInstallBinary(p) {
				t.Error("nothing was done")
			}
			p.expectBinary()
		})
	}
}

// The file of a running program cannot be written (ETXTBSY), and a file that is being written cannot be
// executed.
func TestARunningBinaryIsReplaced(t *testing.T) {
	p := newPlace(t)
	mustInstallBinary(p)
	// It waits for its configuration on standard input.
	cmd := exec.Command(p.Binary())
	cmd.Env = []string{"CNI_COMMAND=DEL", "CNI_PATH=/x", "CNI_CONTAINERID=c", "CNI_IFNAME=eth0"}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := os.OpenFile(p.Binary(), os.O_WRONLY, 0); !errors.Is(err, unix.ETXTBSY) {
		t.Fatalf("writing to the running binary: %v, want that it is busy", err)
	}
	p.Source = otherPlugin(t, p.Source)
	if !mustInstallBinary(p) {
		t.Error("nothing was copied")
	}
	p.expectBinary()
	conf := `{"cniVersion":"1.0.0","name":"n","type":"sockmap","bpffsPath":"/nowhere/sockmap"}`
	if _, err := io.WriteString(stdin, conf); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil || out.String() != "" {
		t.Errorf("the old one ended with %v, %q", err, out.String())
	}
}

// otherPlugin is the plugin with other content.
func otherPlugin(t testing.TB, plugin string) string {
	t.Helper()
	text, err := os.ReadFile(plugin)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(path, append(text, "another version"...), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// However often the binary is replaced, it is complete at any moment.
func TestTheBinaryRunsWhileItIsReplaced(t *testing.T) {
	p := newPlace(t)
	mustInstallBinary(p)
	sources := []string{p.Source, otherPlugin(t, p.Source)}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := checkAnswers(t.Context(), p.Binary()); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for n := range 30 {
		p.Source = sources[n%2]
		mustInstallBinary(p)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestSourceThatIsNoPluginIsNotInstalled(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no program":      {"\x7fELF", "does not answer VERSION"},
		"another program": {"#!/bin/sh\necho hello\n", "its answer to VERSION is"},
		"another plugin": {"#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\"]}'\n",
			"is not the plugin sockmap"},
		"a program that fails": {"#!/bin/sh\nexit 3\n", "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			mustInstallBinary(p)
			good := p.Source
			p.Source = filepath.Join(t.TempDir(), "plugin")
			if err := os.WriteFile(p.Source, []byte(c.text), 0o700); err != nil {
				t.Fatal(err)
			}
			if changed, err := p.InstallBinary(t.Context()); changed || err == nil ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want an error with %q", changed, err, c.want)
			}
			p.Source = good
			p.expectBinary()
		})
	}
	p := newPlace(t)
	p.Source = "/nowhere/sockmap"
	if _, err := p.InstallBinary(t.Context()); !errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), "/nowhere/sockmap") {
		t.Errorf("a missing source: %v", err)
	}
}

// smallDisk is a file system of size bytes.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill fills a file system.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for deadline := time.Now().Add(patience); ; {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil || time.Now().After(deadline) {
			t.Fatalf("fill: %v", err)
		}
	}
	return func() { os.Remove(path) }
}

func TestAFullDiskLosesNothing(t *testing.T) {
	p := newPlace(t)
	p.BinDir, p.ConfDir = smallDisk(t, "1m"), smallDisk(t, "64k")
	if _, err := p.InstallBinary(t.Context()); !errors.Is(err, unix.ENOSPC) ||
		!strings.Contains(err.Error(), p.Binary()) {
		t.Errorf("binary: %v, want ENOSPC with the file's name", err)
	}
	for _, c := range []struct{ file, text string }{
		{conflists[0].file, conflists[0].text}, {singles[0].file, singles[0].text},
	} {
		path := p.write(c.file, c.text)
		before := tree(t, p.ConfDir)
		free := fill(t, p.ConfDir)
		if _, err := p.Chain(t.Context()); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ENOSPC with the file's name", c.file, err)
		}
		free()
		p.expectTree("after ENOSPC", before)
		p.expectNoLeftovers()
		if _, err := p.Chain(t.Context()); err != nil {
			t.Errorf("with room again: %v", err)
		}
		// Removing the entry from a list on a full disk needs room as well.
		free = fill(t, p.ConfDir)
		_, err := p.Uninstall(t.Context(), Removal{CacheDirs: []string{p.cache}})
		if c.file == conflists[0].file && (!errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: uninstall on a full disk: %v", c.file, err)
		}
		free()
		p.uninstall()
		p.expectTree("after uninstall", before)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStubOnlyPassesTheResultOn(t *testing.T) {
	p := newPlace(t)
	mustInstallBinary(p)
	if err := p.installStub(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p.Binary())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !stub.Marked(f, st.Size()) || st.Mode() != 0o755 {
		t.Fatalf("no stub: %v, %v", err, st.Mode())
	}
	first := inode(t, p.Binary())
	if err := p.installStub(t.Context()); err != nil || inode(t, p.Binary()) != first {
		t.Errorf("made again of itself: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "sockmap") // no bpffs: the plugin would complain
	const result = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"unknown":9007199254740993}`
	conf := `{"cniVersion":"1.1.0","name":"n","type":"sockmap","required":true,"peers":"wrong","bpffsPath":"` +
		dir +
		`","prevResult":` + result + `,"cni.dev/valid-attachments":[]}`
	for verb, want := range map[string]string{"ADD": result, "DEL": "", "CHECK": "", "GC": "", "STATUS": ""} {
		cmd := exec.Command(p.Binary())
		cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_PATH=/x", "CNI_CONTAINERID=c", "CNI_IFNAME=eth0",
			"CNI_NETNS=/gone"}
		cmd.Stdin = strings.NewReader(conf)
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: %v, %q, want %q", verb, err, out, want)
		}
	}
	if err := checkAnswers(t.Context(), p.Binary()); err != nil {
		t.Errorf("VERSION: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stub made %s: %v", dir, err)
	}
}
