// SPDX-License-Identifier: Apache-2.0

package top

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

const (
	interval      = time.Second
	historyLength = 240 // samples that are kept for the graph
)

// model is the state of the screen. Bubbletea gives it one message at a time.
type model struct {
	read          func() Sample
	plain         bool // ASCII only
	width, height int

	sample   Sample
	before   live.Rates
	fellBack map[string]uint64 // between the last two samples
	history  []point
	looks    int // samples so far; the first has no rates

	pods, paused, help, typing bool
	sort                       int
	search                     string // text that shown rows contain; empty: all are shown
	offset                     int
	reading                    bool
}

// point has the bytes that the node sent in one second.
type point struct{ redirected, tcp float64 }

func newModel(read func() Sample, plain bool) *model {
	return &model{read: read, plain: plain, width: 80, height: 24}
}

type (
	tickMsg time.Time
	readMsg Sample
)

func (m *model) look() tea.Cmd {
	if m.reading {
		return nil
	}
	m.reading = true
	return func() tea.Msg { return readMsg(m.read()) }
}

func tick() tea.Cmd { return tea.Tick(interval, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// Init reads the first sample.
func (m *model) Init() tea.Cmd { return tea.Batch(m.look(), tick()) }

// Update is called for keys, sizes, ticks and samples.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tickMsg:
		if m.paused {
			return m, tick()
		}
		return m, tea.Batch(m.look(), tick())
	case readMsg:
		m.reading = false
		if !m.paused {
			m.take(Sample(msg))
		}
	case tea.PasteMsg:
		if m.typing {
			m.search += strings.Join(strings.Fields(msg.Content), "")
		}
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+c" {
			return m, tea.Quit
		}
		if msg.String() == "ctrl+z" {
			return m, tea.Suspend
		}
		if m.typing {
			m.typeSearch(msg)
			return m, nil
		}
		return m, m.key(msg.String())
	}
	return m, nil
}

func (m *model) take(s Sample) {
	last := m.sample
	m.sample = s
	if s.Err != nil {
		m.looks, m.before, m.fellBack = 0, live.Rates{}, nil
		return
	}
	m.before = m.before.Next(s.Flows, s.At)
	m.looks++
	if m.looks == 1 {
		return
	}
	m.fellBack = map[string]uint64{}
	for reason, n := range s.Fallbacks {
		if was := last.Fallbacks[reason]; n > was {
			m.fellBack[reason] = n - was
		}
	}
	var p point
	for i := range s.Flows {
		p.redirected += s.Flows[i].PerSecond().RedirectedBytes
		p.tcp += s.Flows[i].PerSecond().TCPBytes
	}
	m.history = append(m.history, p)
	if len(m.history) > historyLength {
		m.history = m.history[len(m.history)-historyLength:]
	}
}

func (m *model) typeSearch(msg tea.KeyPressMsg) {
	switch msg.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.search = false, ""
	case "backspace":
		if r := []rune(m.search); len(r) > 0 {
			m.search = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.search = ""
	default:
		if msg.Text != " " {
			m.search += msg.Text
		}
	}
	m.offset = 0
}

func (m *model) key(name string) tea.Cmd {
	page := max(1, m.rowsShown()-1)
	switch name {
	case "q":
		return tea.Quit
	case "?", "h":
		m.help = !m.help
	case "esc":
		if m.help {
			m.help = false
		} else {
			m.search, m.offset = "", 0
		}
	case "tab", "v":
		m.pods, m.offset = !m.pods, 0
	case "s":
		m.sort, m.offset = (m.sort+1)%len(orders), 0
	case "S":
		m.sort, m.offset = (m.sort+len(orders)-1)%len(orders), 0
	case "space", "p":
		m.paused = !m.paused
		if !m.paused {
			return m.look()
		}
	case "/", "f":
		m.typing, m.help = true, false
	case "down", "j":
		m.offset++
	case "up", "k":
		m.offset--
	case "pgdown":
		m.offset += page
	case "pgup":
		m.offset -= page
	case "home", "g":
		m.offset = 0
	case "end", "G":
		m.offset = 1 << 30 // it is bounded where the rows are known
	}
	return nil
}
