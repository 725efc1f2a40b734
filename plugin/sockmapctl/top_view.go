// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// The sixteen colours of the terminal's own theme, so that it can be read on dark and on light ones.
var (
	topTitle  = lipgloss.NewStyle().Bold(true)
	topFaint  = lipgloss.NewStyle().Faint(true)
	topGreen  = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	topYellow = lipgloss.NewStyle().Foreground(lipgloss.Color("3"))
	topRed    = lipgloss.NewStyle().Foreground(lipgloss.Color("1")).Bold(true)
	topCyan   = lipgloss.NewStyle().Foreground(lipgloss.Color("6"))
)

// topHead and topFoot are the lines above the rows, the titles among them, and below.
const (
	topHead = 6
	topFoot = 1
)

func (m *topModel) rowsShown() int { return max(0, m.height-topHead-topFoot) }

// View draws the screen, never more than it has room for.
func (m *topModel) View() tea.View {
	lines := m.lines()
	if len(lines) > m.height {
		lines = lines[:m.height]
	}
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, m.width, "")
	}
	content := strings.Join(lines, "\n")
	if m.plain {
		content = asciiOnly.Replace(content)
	}
	v := tea.NewView(content)
	v.AltScreen = true
	v.WindowTitle = "sockmapctl top"
	return v
}

// asciiOnly has one column for one column.
var asciiOnly = strings.NewReplacer("█", "#", "░", ".", "→", ">", "←", "<", "…", "~", "↑", "^", "↓", "v", "·", "-", "×", "x",
	"▁", "_", "▂", ".", "▃", "-", "▄", "=", "▅", "+", "▆", "*", "▇", "%")

func (m *topModel) lines() []string {
	lines := make([]string, 0, m.height)
	lines = append(lines, m.headline(), m.rateLine(), m.tcpLine(), m.reasonLine(), "")
	var body []string
	switch {
	case m.help:
		body = topHelp
	case m.sample.err != nil:
		body = m.errorLines()
	case m.looks == 0:
		body = []string{topFaint.Render("looking …")}
	default:
		body = m.list()
	}
	room := max(0, m.height-len(lines)-topFoot)
	if len(body) > room {
		body = body[:room]
	}
	lines = append(lines, body...)
	for len(lines) < m.height-topFoot {
		lines = append(lines, "")
	}
	if len(lines) > m.height-topFoot {
		lines = lines[:max(0, m.height-topFoot)]
	}
	return append(lines, m.foot())
}

func (m *topModel) headline() string {
	state := topGreen.Render("on")
	switch {
	case m.sample.err != nil:
		state = topRed.Render("not readable")
	case m.looks == 0:
		state = topFaint.Render("…")
	case m.sample.disabled:
		state = topRed.Render("OFF: sockmapctl disable")
	}
	joined := 0
	for i := range m.sample.flows {
		if m.sample.flows[i].Joined && m.sample.flows[i].Role == datapath.RoleActive.String() {
			joined++
		}
	}
	left := fmt.Sprintf("%s %s   %s   %s", topTitle.Render("sockmap"), state, humanNumber(joined, "flow", "flows"),
		humanNumber(len(m.sample.flows), "socket", "sockets"))
	if m.sample.max > 0 {
		left += topFaint.Render(fmt.Sprintf(" of %d", m.sample.max))
	}
	right := ""
	if !m.sample.at.IsZero() {
		right = topFaint.Render(m.sample.at.Format(time.TimeOnly))
	}
	if m.paused {
		right = topYellow.Render("PAUSED") + " " + right
	}
	return m.spread(left, right)
}

// spread puts right at the right edge, where there is room.
func (m *topModel) spread(left, right string) string {
	free := m.width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if free < 1 {
		return left
	}
	return left + strings.Repeat(" ", free) + right
}

func (m *topModel) last() topPoint {
	if len(m.history) == 0 || m.sample.err != nil {
		return topPoint{}
	}
	return m.history[len(m.history)-1]
}

// topLabel has the words of the first lines and a rate behind them.
const topLabel = 24

func (m *topModel) rateLine() string {
	p := m.last()
	text := fmt.Sprintf("redirected %13s", compactRate(p.redirected))
	return topGreen.Render(text) + "  " + m.graph(func(p topPoint) float64 { return p.redirected }, topGreen)
}

func (m *topModel) tcpLine() string {
	p := m.last()
	text := fmt.Sprintf("by TCP     %13s", compactRate(p.tcp))
	return topYellow.Render(text) + "  " + m.graph(func(p topPoint) float64 { return p.tcp }, topYellow)
}

func (m *topModel) reasonLine() string {
	p := m.last()
	share := "-"
	if p.redirected+p.tcp > 0 {
		share = humanShare(uint64(p.redirected+0.5), uint64(p.redirected+0.5)+uint64(p.tcp+0.5))
	}
	text := topTitle.Render(fmt.Sprintf("share      %13s", share)) + "  "
	if len(m.fellBack) == 0 {
		return text + topFaint.Render("nothing went to TCP in the last second")
	}
	return text + topFaint.Render("to TCP in the last second: ") + topYellow.Render(rankedText(m.fellBack))
}

// graph has one column for a second, both graphs on one scale: the highest of what is seen.
func (m *topModel) graph(of func(topPoint) float64, style lipgloss.Style) string {
	room := min(m.width-topLabel-2, len(m.history))
	if room < 1 {
		return ""
	}
	seen := m.history[len(m.history)-room:]
	var most float64
	for _, p := range seen {
		most = max(most, p.redirected, p.tcp)
	}
	levels := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, p := range seen {
		i := 0
		if v := of(p); v > 0 && most > 0 {
			i = 1 + int(v/most*float64(len(levels)-2)+0.5)
		}
		b.WriteRune(levels[min(i, len(levels)-1)])
	}
	return style.Render(b.String())
}

func (m *topModel) errorLines() []string {
	lines := []string{topRed.Render("sockmap cannot be read:")}
	for _, part := range wrap(printable(m.sample.err.Error()), m.width-2) {
		lines = append(lines, "  "+part)
	}
	if m.sample.wayOut != "" {
		lines = append(lines, "", m.sample.wayOut)
	}
	return append(lines, "", topFaint.Render("It looks again each second."))
}

var topHelp = []string{
	topTitle.Render("keys"),
	"  tab      flows or pods            space    pause, and go on",
	"  s  S     next, previous order     /        show only what contains a text",
	"  ↑ ↓      scroll                   esc      show all again",
	"  PgUp PgDn Home End                q        quit",
	"",
	topTitle.Render("columns"),
	"  RATE     bytes that both ends send in a second, however they travel",
	"  SHARE    what of it goes from socket to socket; while silent, of all it sent",
	"  REASON   why by TCP, of the client → or the server ←; see sockmapctl explain",
	"  BACKLOG  bytes that wait for a reader",
	"  OUT IN   bytes that a pod sends and gets in a second, on flows listed here",
}

// foot tells the keys, the most needed first: a narrow terminal cuts the end.
func (m *topModel) foot() string {
	if m.typing {
		return topCyan.Render("show only: ") + printableOr(m.filter) + "█" + topFaint.Render("   enter: keep   esc: show all")
	}
	view := "pods"
	if m.pods {
		view = "flows"
	}
	key := func(k, text string) string { return topCyan.Render(k) + " " + text }
	parts := []string{
		key("q", "quit"), key("?", "help"), key("tab", view), key("s", "sort: "+topSorts[m.sort].name), key("/", "filter"), key("space", "pause"),
	}
	if m.filter != "" {
		parts[4] = key("esc", "shows all, not only ") + topYellow.Render(printableOr(m.filter))
	}
	return strings.Join(parts, "   ")
}

func printableOr(s string) string {
	if s == "" {
		return ""
	}
	return printable(s)
}
