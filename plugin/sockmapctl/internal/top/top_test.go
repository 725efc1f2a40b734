// SPDX-License-Identifier: Apache-2.0

package top

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/livetest"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
)

// exampleModel has seen two samples, a second apart.
func exampleModel() *model {
	began := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	m := newModel(nil, false)
	for n := range 2 {
		flows := livetest.Flows()
		flows[0].RedirectedBytes += uint64(n) * 3 << 20
		flows[0].RedirectedMessages += uint64(n) * 100
		flows[1].TCPBytes += uint64(n) * 1 << 20
		flows[2].RedirectedBytes += uint64(n) * 9 << 20
		m.Update(readMsg{
			At: began.Add(time.Duration(n) * time.Second), Flows: flows, Max: 65536,
			Fallbacks: map[string]uint64{"unread": uint64(4 + 3*n), "no-peer": 7},
		})
	}
	return m
}

func (m *model) press(keys ...string) *model {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		switch k {
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "tab":
			msg = tea.KeyPressMsg{Code: tea.KeyTab}
		case "space":
			msg = tea.KeyPressMsg{Code: tea.KeySpace, Text: " "}
		case "backspace":
			msg = tea.KeyPressMsg{Code: tea.KeyBackspace}
		}
		m.Update(msg)
	}
	return m
}

func screenOf(m *model) string {
	lines := strings.Split(ansi.Strip(m.View().Content), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestTopScreens(t *testing.T) {
	for name, m := range map[string]*model{
		"flows": exampleModel(), "pods": exampleModel().press("tab"),
		"search": exampleModel().press("/", "d", "b", "x", "backspace", "enter"),
		"help":   exampleModel().press("?"),
	} {
		golden.Check(t, filepath.Join("testdata", "top-"+name+".golden"), screenOf(m)+"\n")
	}
}

func TestTopNeverDrawsBeyondTheTerminal(t *testing.T) {
	for _, keys := range [][]string{{}, {"tab"}, {"?"}, {"/", "a"}, {"space"}} {
		m := exampleModel().press(keys...)
		for _, size := range [][2]int{{80, 24}, {40, 12}, {20, 5}, {200, 60}, {1, 1}, {0, 0}, {132, 3}} {
			m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			lines := strings.Split(m.View().Content, "\n")
			if len(lines) > max(1, size[1]) {
				t.Errorf("%v at %v: %d lines", keys, size, len(lines))
			}
			for _, line := range lines {
				if got := ansi.StringWidth(line); got > size[0] {
					t.Errorf("%v at %v: %d columns: %q", keys, size, got, line)
				}
			}
		}
	}
}

func TestTopSorts(t *testing.T) {
	m := exampleModel()
	for _, want := range []string{
		"data/cache-0:8080", "data/db-0:5432", "data/db-0:5432", "data/cache-0:8080", "data/db-0:5432",
		"10.9.9.9:443",
	} {
		if got := m.rows()[0].to; got != want {
			t.Errorf("by %s: %s comes first, want %s", orders[m.sort].name, got, want)
		}
		m.press("s")
	}
	if m.sort != 0 {
		t.Errorf("after all orders it is at %d", m.sort)
	}
	if m.press("S"); orders[m.sort].name != "name" {
		t.Errorf("the order before the first is %s", orders[m.sort].name)
	}
}

func TestTopScrollsAndStaysWithinTheRows(t *testing.T) {
	m := exampleModel()
	flows := make([]live.Flow, 0, 100)
	for i := range 100 {
		f := livetest.Flows()[4]
		f.Key.Own, f.Labels[0] = uint32(1000+i), fmt.Sprintf("shop/web-%02d", i)
		flows = append(flows, f)
	}
	m.Update(readMsg{At: time.Now(), Flows: flows})
	m.press("s", "s", "s", "s", "s") // by name
	if s := screenOf(m); !strings.Contains(s, "web-00") || strings.Contains(s, "web-50") {
		t.Errorf("the first rows:\n%s", s)
	}
	m.press("G")
	if s := screenOf(m); !strings.Contains(s, "web-99") || strings.Contains(s, "web-80") {
		t.Errorf("the last rows:\n%s", s)
	}
	m.press("k")
	if s := screenOf(m); strings.Contains(s, "web-99") {
		t.Errorf("one up from the last rows:\n%s", s)
	}
	m.press("g", "k")
	if s := screenOf(m); !strings.Contains(s, "web-00") {
		t.Errorf("nothing is above the first:\n%s", s)
	}
}

func TestTopPausesAndShowsErrors(t *testing.T) {
	m := exampleModel().press("space")
	before := screenOf(m)
	m.Update(readMsg{At: time.Now().Add(time.Hour)})
	if s := screenOf(m); s != before || !strings.Contains(s, "PAUSED") {
		t.Errorf("while it pauses nothing changes:\n%s", s)
	}
	m.press("space")
	m.Update(readMsg{At: time.Now(), Err: errors.New("sockmap is not loaded below /x"),
		WayOut: "load it with: sockmapctl load"})
	if s := screenOf(m); !strings.Contains(s, "not loaded below /x") ||
		!strings.Contains(s, "sockmapctl load") || strings.Contains(s, "CLIENT") {
		t.Errorf("an error:\n%s", s)
	}
	m.Update(readMsg{At: time.Now(), Flows: livetest.Flows(), Disabled: true})
	if s := screenOf(m); !strings.Contains(s, "OFF: sockmapctl disable") || !strings.Contains(s, "CLIENT") {
		t.Errorf("it is loaded again:\n%s", s)
	}
}

func TestTopWithoutLettersBeyondASCII(t *testing.T) {
	m := exampleModel().press("/", "unread")
	m.plain = true
	for _, r := range screenOf(m) {
		if r > 126 {
			t.Errorf("%q in\n%s", r, screenOf(m))
		}
	}
}

// Filters are the flags of the command; what / does is a search, on the screen and in the help.
func TestTopCallsOnlyTheFlagsAFilter(t *testing.T) {
	for name, m := range map[string]*model{
		"flows": exampleModel(), "help": exampleModel().press("?"), "typing": exampleModel().press("/", "d"),
		"kept": exampleModel().press("/", "d", "enter"), "nothing": exampleModel().press("/", "xyz"),
	} {
		s := screenOf(m)
		if strings.Contains(s, "filter") || !strings.Contains(s, "search") {
			t.Errorf("%s:\n%s", name, s)
		}
	}
	m := exampleModel()
	m.Update(readMsg{At: time.Now(), Filter: "--pod shop/web-9"})
	if s := screenOf(m); !strings.Contains(s, "no open connection fits the filter --pod shop/web-9") {
		t.Errorf("a filter that nothing fits:\n%s", s)
	}
}
