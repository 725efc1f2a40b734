// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// Colours of the terminal's own theme, which are legible on dark and on light backgrounds.
var (
	titleStyle  = lipgloss.NewStyle().Bold(true)
	faintStyle  = lipgloss.NewStyle().Faint(true)
	greenStyle  = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	yellowStyle = lipgloss.NewStyle().Foreground(lipgloss.Color("3"))
	redStyle    = lipgloss.NewStyle().Foreground(lipgloss.Color("1")).Bold(true)
	cyanStyle   = lipgloss.NewStyle().Foreground(lipgloss.Color("6"))
)

// headLines and topFoot are the numbers of lines above the rows, including the titles, and below them.
const (
	headLines = 6
	footLines = 1
)

func (m *model) rowsShown() int { return max(0, m.height-headLines-footLines) }

// View draws the screen within the size of the terminal.
func (m *model) View() tea.View {
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

// asciiOnly replaces each character with one of the same width.
var asciiOnly = strings.NewReplacer("█", "#", "░", ".", "→", ">", "←", "<", "…", "~", "↑", "^", "↓", "v", "·",
	"-", "×", "x",
	"▁", "_", "▂", ".", "▃", "-", "▄", "=", "▅", "+", "▆", "*", "▇", "%")

func (m *model) lines() []string {
	lines := make([]string, 0, m.height)
	lines = append(lines, m.headline(), m.rateLine(), m.tcpLine(), m.reasonLine(), "")
	var body []string
	switch {
	case m.help:
		body = helpLines
	case m.sample.Err != nil:
		body = m.errorLines()
	case m.looks == 0:
		body = []string{faintStyle.Render("reading …")}
	default:
		body = m.list()
	}
	room := max(0, m.height-len(lines)-footLines)
	if len(body) > room {
		body = body[:room]
	}
	lines = append(lines, body...)
	for len(lines) < m.height-footLines {
		lines = append(lines, "")
	}
	if len(lines) > m.height-footLines {
		lines = lines[:max(0, m.height-footLines)]
	}
	return append(lines, m.foot())
}

func (m *model) headline() string {
	state := greenStyle.Render("on")
	switch {
	case m.sample.Err != nil:
		state = redStyle.Render("not readable")
	case m.looks == 0:
		state = faintStyle.Render("…")
	case m.sample.Disabled:
		state = redStyle.Render("OFF: sockmapctl disable")
	}
	joined := 0
	for i := range m.sample.Flows {
		if m.sample.Flows[i].Joined && m.sample.Flows[i].Role == datapath.RoleActive.String() {
			joined++
		}
	}
	left := fmt.Sprintf("%s %s   %s   %s", titleStyle.Render("sockmap"), state,
		term.Number(joined, "pair", "pairs"),
		term.Number(len(m.sample.Flows), "socket", "sockets"))
	if m.sample.Max > 0 {
		left += faintStyle.Render(fmt.Sprintf(" of %d", m.sample.Max))
	}
	if m.sample.Filter != "" {
		left += "   " + yellowStyle.Render(term.Printable(m.sample.Filter))
	}
	right := ""
	if !m.sample.At.IsZero() {
		right = faintStyle.Render(m.sample.At.Format(time.TimeOnly))
	}
	if m.paused {
		right = yellowStyle.Render("PAUSED") + " " + right
	}
	return m.spread(left, right)
}

// spread puts right at the right edge, if it fits.
func (m *model) spread(left, right string) string {
	free := m.width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if free < 1 {
		return left
	}
	return left + strings.Repeat(" ", free) + right
}

func (m *model) last() point {
	if len(m.history) == 0 || m.sample.Err != nil {
		return point{}
	}
	return m.history[len(m.history)-1]
}

// labelWidth is the width of the labels of the first lines, with a rate.
const labelWidth = 24

func (m *model) rateLine() string {
	p := m.last()
	text := fmt.Sprintf("redirected %13s", term.CompactRate(p.redirected))
	return greenStyle.Render(text) + "  " + m.graph(func(p point) float64 { return p.redirected }, greenStyle)
}

func (m *model) tcpLine() string {
	p := m.last()
	text := fmt.Sprintf("over TCP   %13s", term.CompactRate(p.tcp))
	return yellowStyle.Render(text) + "  " + m.graph(func(p point) float64 { return p.tcp }, yellowStyle)
}

func (m *model) reasonLine() string {
	p := m.last()
	share := "-"
	if p.redirected+p.tcp > 0 {
		share = term.Share(uint64(p.redirected+0.5), uint64(p.redirected+0.5)+uint64(p.tcp+0.5))
	}
	text := titleStyle.Render(fmt.Sprintf("share      %13s", share)) + "  "
	if len(m.fellBack) == 0 {
		return text + faintStyle.Render("no flow fell back to TCP in the last second")
	}
	return text + faintStyle.Render("to TCP in the last second: ") + yellowStyle.Render(rankedText(m.fellBack))
}

// graph has one column for each second. Both graphs have one scale, the maximum of what is visible.
func (m *model) graph(of func(point) float64, style lipgloss.Style) string {
	room := min(m.width-labelWidth-2, len(m.history))
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

func (m *model) errorLines() []string {
	lines := []string{redStyle.Render("sockmap cannot be read:")}
	for _, part := range term.Wrap(term.Printable(m.sample.Err.Error()), m.width-2) {
		lines = append(lines, "  "+part)
	}
	if m.sample.WayOut != "" {
		lines = append(lines, "", m.sample.WayOut)
	}
	return append(lines, "", faintStyle.Render("It tries again each second."))
}

var helpLines = []string{
	titleStyle.Render("keys"),
	"  tab      pairs or pods            space    pause and resume",
	"  s  S     next, previous order     /        search: rows that contain a text",
	"  ↑ ↓      scroll                   esc      end the search",
	"  PgUp PgDn Home End                q        quit",
	"",
	titleStyle.Render("columns"),
	"  RATE     bytes per second that both ends send, redirected or over TCP",
	"  SHARE    redirected part of RATE; of all bytes so far while nothing is sent",
	"  REASON   why over TCP, for the client → or the server ←; see sockmapctl explain",
	"  BACKLOG  bytes that the reader has not read yet",
	"  OUT IN   bytes per second that a pod sends and receives, on sockets listed here",
}

// foot lists the keys, the most important first, because a narrow terminal cuts the end.
func (m *model) foot() string {
	if m.typing {
		return cyanStyle.Render("search: ") + term.Clean(m.search) + "█" +
			faintStyle.Render("   enter: keep   esc: end the search")
	}
	view := "pods"
	if m.pods {
		view = "pairs"
	}
	key := func(k, text string) string { return cyanStyle.Render(k) + " " + text }
	parts := []string{
		key("q", "quit"), key("?", "help"), key("tab", view), key("s", "sort: "+orders[m.sort].name),
		key("/", "search"), key("space", "pause"),
	}
	if m.search != "" {
		parts[4] = key("esc", "end the search for ") + yellowStyle.Render(term.Clean(m.search))
	}
	return strings.Join(parts, "   ")
}
