// SPDX-License-Identifier: Apache-2.0

package top

import (
	"strconv"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// list returns the titles and the rows that fit on the screen.
func (m *model) list() []string {
	rows := m.rows()
	room := m.rowsShown()
	m.offset = max(0, min(m.offset, len(rows)-room))
	if len(rows) == 0 {
		text := "no connection is open between containers of this node"
		switch {
		case m.search != "":
			text = "no row contains the text of the search; esc ends it"
		case m.sample.Filter != "":
			text = "no open connection fits the filter " + term.Printable(m.sample.Filter)
		}
		return []string{faintStyle.Render(text)}
	}
	shown := rows[m.offset:min(len(rows), m.offset+room)]
	t := pairList(shown, m.width)
	if m.pods {
		t = podList(shown)
	}
	var b strings.Builder
	if _, err := t.Write(&b, m.width, true); err != nil {
		return []string{err.Error()} // a strings.Builder takes everything
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// pairList cuts names only if omitting less important columns is not enough.
func pairList(rows []row, width int) *term.Table {
	client, server := 18, 22
	if width < 80 {
		client, server = 10, 12
	}
	t := &term.Table{Columns: []term.Column{
		{Title: "CLIENT", Min: client, KeepEnd: true},
		{Title: "SERVER", Min: server, KeepEnd: true},
		{Title: "FROM", Min: 20, KeepEnd: true, Drop: 7},
		{Title: "MODE", Drop: 1},
		{Title: "REASON", Min: 15, Drop: 2},
		{Title: "RATE", Right: true},
		{Title: "SHARE", Right: true},
		{Title: "TCP", Right: true, Drop: 3},
		{Title: "MSGS/S", Right: true, Drop: 5},
		{Title: "BACKLOG", Right: true, Drop: 4},
		{Title: "AGE", Right: true, Drop: 6},
	}}
	for i := range rows {
		r := &rows[i]
		t.Add(r.name, r.to, r.at, r.mode, r.reason, term.CompactRate(r.rate()), shareText(r),
			term.CompactRate(r.tcp),
			term.Count(uint64(r.messages+0.5)), term.CompactBytes(r.backlog), term.Age(term.Seconds(r.age)))
	}
	t.Paint = func(row, column int, text string) string {
		if row < 0 {
			return titleStyle.Render(text)
		}
		switch t.Columns[column].Title {
		case "MODE":
			return modeStyle(rows[row].mode).Render(text)
		case "REASON":
			return yellowStyle.Render(text)
		case "SHARE":
			return shareStyle(&rows[row]).Render(text)
		case "FROM", "AGE":
			return faintStyle.Render(text)
		}
		return text
	}
	return t
}

func podList(rows []row) *term.Table {
	t := &term.Table{Columns: []term.Column{
		{Title: "POD", Min: 10, KeepEnd: true},
		{Title: "SOCKETS", Right: true, Drop: 3},
		{Title: "ON-TCP", Right: true, Drop: 2},
		{Title: "OUT", Right: true},
		{Title: "IN", Right: true, Drop: 5},
		{Title: "SHARE", Right: true},
		{Title: "TCP", Right: true, Drop: 4},
		{Title: "MSGS/S", Right: true, Drop: 7},
		{Title: "BACKLOG", Right: true, Drop: 6},
		{Title: "REASONS", Min: 8, Drop: 1},
	}}
	for i := range rows {
		r := &rows[i]
		t.Add(r.name, strconv.Itoa(r.flows), strconv.Itoa(r.onTCP), term.CompactRate(r.rate()),
			term.CompactRate(r.in), shareText(r),
			term.CompactRate(r.tcp), term.Count(uint64(r.messages+0.5)), term.CompactBytes(r.backlog),
			rankedText(r.reasons))
	}
	t.Paint = func(row, column int, text string) string {
		if row < 0 {
			return titleStyle.Render(text)
		}
		switch t.Columns[column].Title {
		case "SHARE":
			return shareStyle(&rows[row]).Render(text)
		case "REASONS":
			return yellowStyle.Render(text)
		}
		return text
	}
	return t
}

// shareText is in whole percents, so that the column does not flicker; it never rounds to 0 or 100.
func shareText(r *row) string {
	s := r.share()
	switch {
	case s < 0:
		return ""
	case s > 0 && s < 0.01:
		return "<1%"
	case s > 0.99 && s < 1:
		return ">99%"
	}
	return strconv.Itoa(int(s*100+0.5)) + "%"
}

func shareStyle(r *row) lipgloss.Style {
	switch s := r.share(); {
	case s < 0:
		return faintStyle
	case s < 0.5:
		return yellowStyle
	}
	return greenStyle
}

func modeStyle(mode string) lipgloss.Style {
	switch mode {
	case datapath.ModeRedirect.String():
		return greenStyle
	case datapath.ModeTCP.String(), datapath.ModeLeft.String():
		return yellowStyle
	}
	return faintStyle
}
