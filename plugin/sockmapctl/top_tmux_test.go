// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func TestTopNeedsATerminal(t *testing.T) {
	r := newTestNode(t).run(t, "top")
	if r.code != exitError || !strings.Contains(r.stderr,
		"have to be a terminal (without one: sockmapctl flows --watch)") {
		t.Errorf("%+v", r)
	}
}

// terminal is a tmux server of the test's own, with one window.
type terminal struct{ socket string }

// newTerminal runs a shell in which the words $CTL are sockmapctl on the node.
func newTerminal(t *testing.T, n *testNode, width, height int) terminal {
	t.Helper()
	term := terminal{filepath.Join(t.TempDir(), "tmux")}
	cmd := exec.Command("tmux", "-f", os.DevNull, "-S", term.socket, "new-session", "-d", "-x",
		fmt.Sprint(width), "-y", fmt.Sprint(height),
		"env", "PS1=ready> ", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TERM=xterm", "CTL="+os.Args[0], asProgram+"=1",
		pathVariable+"="+n.dir, "sh")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() { term.tmux(t, "kill-server") })
	term.until(t, "the shell is there", "ready>")
	return term
}

func (term terminal) tmux(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("tmux", append([]string{"-u", "-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %s: %v: %s", args, err, out)
	}
	return string(out)
}

func (term terminal) screen(t *testing.T) string { return term.tmux(t, "capture-pane", "-p") }

func (term terminal) keys(t *testing.T, keys ...string) {
	t.Helper()
	term.tmux(t, append([]string{"send-keys"}, keys...)...)
}

// until waits for a screen with all of the texts.
func (term terminal) until(t *testing.T, what string, texts ...string) string {
	t.Helper()
	var screen, missing string
	if !fixture.Within(fixture.Patience, func() bool {
		screen, missing = term.screen(t), ""
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				missing = text
			}
		}
		return missing == ""
	}) {
		t.Fatalf("waited until %s: no %q in\n%s", what, missing, screen)
	}
	return screen
}

func TestTopOnATerminal(t *testing.T) {
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	p := connect(t, g, ns, 1)[0]
	term := newTerminal(t, n, 100, 24)
	term.keys(t, "echo before; $CTL top", "Enter")
	term.until(t, "the pair is listed", "1 pair ", "shop/web-0", "pending", "q quit")
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				p.send(t, 10, 1000)
				pair{p.server, p.client}.send(t, 10, 1000)
				fixture.Elapse(time.Millisecond, "the pace of the sender")
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	term.until(t, "it is redirected", " redirect ", "iB/s", "100%")
	n.ok(t, "disable")
	term.until(t, "it is plain TCP", "OFF: sockmapctl disable", " left ", "→disabled")
	n.ok(t, "enable")
	term.until(t, "it stays plain TCP", "sockmap on", " left ")

	term.keys(t, "Tab")
	term.until(t, "pods are listed", "POD ", "OUT", "tab pairs")
	term.keys(t, "/", "nobody")
	term.until(t, "nothing fits", "nobody", "esc ends it")
	term.keys(t, "Escape")
	term.until(t, "all is shown again", "shop/web-0")
	term.tmux(t, "resize-window", "-x", "44", "-y", "12")
	narrow := term.until(t, "it fits a narrow terminal", "POD ", "q quit")
	if lines := strings.Split(strings.TrimRight(narrow, "\n"), "\n"); len(lines) != 12 ||
		!strings.HasPrefix(lines[0], "sockmap on") {
		t.Errorf("44 × 12:\n%s", narrow)
	}
	term.tmux(t, "resize-window", "-x", "80", "-y", "24")
	term.until(t, "it fits again", "space pause")
	n.ok(t, "unload")
	term.until(t, "the error is shown", "sockmap is not loaded", "load it with: sockmapctl load")
	n.ok(t, "load")
	term.until(t, "it is loaded again", "sockmap on")

	term.tmux(t, "send-keys", "q")
	term.isGivenBack(t, "q")
	pid := filepath.Join(t.TempDir(), "pid")
	for name, end := range map[string]func(int){
		"Ctrl-C":  func(int) { term.keys(t, "C-c") },
		"SIGTERM": func(pid int) { unix.Kill(pid, unix.SIGTERM) },
	} {
		term.keys(t, fmt.Sprintf("clear; sh -c 'echo $$ >%s; exec $CTL top'", pid), "Enter")
		term.until(t, "it has begun again", "q quit", "sockmap on")
		text, err := os.ReadFile(pid)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		end(number)
		term.isGivenBack(t, name)
	}
}

// isGivenBack fails unless the shell is there again, with a cursor and without what top has drawn, and
// echoes.
func (term terminal) isGivenBack(t *testing.T, after string) {
	t.Helper()
	term.until(t, "the shell is there again after "+after, "ready>")
	if screen := term.screen(t); strings.Contains(screen, "q quit") {
		t.Errorf("after %s something is left:\n%s", after, screen)
	}
	if flags := term.tmux(t, "display-message", "-p",
		"#{alternate_on} #{cursor_flag}"); strings.TrimSpace(flags) != "0 1" {
		t.Errorf("after %s: alternate screen and cursor are %s", after, flags)
	}
	term.keys(t, "stty -a", "Enter")
	term.until(t, "the terminal echoes after "+after, "icanon", " echo ")
	term.keys(t, "clear", "Enter")
}

func TestTopRefusesTerminalsThatCannotShowIt(t *testing.T) {
	term := newTerminal(t, newTestNode(t), 100, 24)
	term.keys(t, "clear; TERM=dumb $CTL top; echo code $?", "Enter")
	term.until(t, "it refuses", `a terminal of type "dumb" cannot move its cursor`, "code 1")
	term.keys(t, "clear; TERM= $CTL top; echo code $?", "Enter")
	term.until(t, "it refuses", "TERM is not set", "code 1")
	term.keys(t, "clear; $CTL top </dev/null; echo code $?", "Enter")
	term.until(t, "it refuses", "have to be a terminal", "code 1")
}
