// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

const (
	topInterval = time.Second
	topHistory  = 240 // samples that are kept for the graph
)

// topModel is the state of the screen. Bubbletea gives it one message at a time.
type topModel struct {
	read          func() topSample
	plain         bool // ASCII only
	width, height int

	sample   topSample
	before   rates
	fellBack map[string]uint64 // between the last two samples
	history  []topPoint
	looks    int // samples so far; the first has no rates

	pods, paused, help, typing bool
	sort                       int
	filter                     string
	offset                     int
	reading                    bool
}

// topPoint is what the node sent in a second.
type topPoint struct{ redirected, tcp float64 }

func newTopModel(read func() topSample, plain bool) *topModel {
	return &topModel{read: read, plain: plain, width: 80, height: 24}
}

type (
	topTick time.Time
	topRead topSample
)

func (m *topModel) look() tea.Cmd {
	if m.reading {
		return nil
	}
	m.reading = true
	return func() tea.Msg { return topRead(m.read()) }
}

func tick() tea.Cmd { return tea.Tick(topInterval, func(t time.Time) tea.Msg { return topTick(t) }) }

// Init takes the first look.
func (m *topModel) Init() tea.Cmd { return tea.Batch(m.look(), tick()) }

// Update is called for keys, sizes, ticks and samples.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topTick:
		if m.paused {
			return m, tick()
		}
		return m, tea.Batch(m.look(), tick())
	case topRead:
		m.reading = false
		if !m.paused {
			m.take(topSample(msg))
		}
	case tea.PasteMsg:
		if m.typing {
			m.filter += strings.Join(strings.Fields(msg.Content), "")
		}
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+c" {
			return m, tea.Quit
		}
		if msg.String() == "ctrl+z" {
			return m, tea.Suspend
		}
		if m.typing {
			m.typeFilter(msg)
			return m, nil
		}
		return m, m.key(msg.String())
	}
	return m, nil
}

func (m *topModel) take(s topSample) {
	last := m.sample
	m.sample = s
	if s.err != nil {
		m.looks, m.before, m.fellBack = 0, rates{}, nil
		return
	}
	m.before = m.before.next(s.flows, s.at)
	m.looks++
	if m.looks == 1 {
		return
	}
	m.fellBack = map[string]uint64{}
	for reason, n := range s.fallbacks {
		if was := last.fallbacks[reason]; n > was {
			m.fellBack[reason] = n - was
		}
	}
	var p topPoint
	for i := range s.flows {
		p.redirected += s.flows[i].rate().RedirectedBytes
		p.tcp += s.flows[i].rate().TCPBytes
	}
	m.history = append(m.history, p)
	if len(m.history) > topHistory {
		m.history = m.history[len(m.history)-topHistory:]
	}
}

func (m *topModel) typeFilter(msg tea.KeyPressMsg) {
	switch msg.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.filter = ""
	default:
		if msg.Text != " " {
			m.filter += msg.Text
		}
	}
	m.offset = 0
}

func (m *topModel) key(name string) tea.Cmd {
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
			m.filter, m.offset = "", 0
		}
	case "tab", "v":
		m.pods, m.offset = !m.pods, 0
	case "s":
		m.sort, m.offset = (m.sort+1)%len(topSorts), 0
	case "S":
		m.sort, m.offset = (m.sort+len(topSorts)-1)%len(topSorts), 0
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
