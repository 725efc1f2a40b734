// SPDX-License-Identifier: Apache-2.0

// Package monitoring describes the Grafana dashboard of conf/monitoring, and checks it and the alerts.
package monitoring

import "encoding/json"

type object = map[string]any

// query is one line of a panel.
type query struct{ expr, legend string }

// panel describes one panel of the dashboard.
type panel struct {
	title, kind, unit string
	wide, high        int // wide in 24 columns, high in rows of 30 pixels
	about             string
	queries           []query
}

// row begins with a title and has its panels side by side, as far as they fit.
type row struct {
	title  string
	panels []panel
}

// of selects the series of the chosen nodes, ofPods also the namespaces. Where no scrape sets the label node,
// its only choice is "All", which is any.
const (
	of     = `node=~"$node"`
	ofPods = of + `,namespace=~"$namespace"`
)

// Dashboard returns it in the form that Grafana imports.
func Dashboard() (string, error) {
	out, err := json.MarshalIndent(object{
		"uid":           "sockmap-cni",
		"title":         "sockmap-cni",
		"description":   "TCP between containers of one node, from socket to socket.",
		"tags":          []string{"cni", "network"},
		"schemaVersion": 39,
		"version":       1,
		"editable":      true,
		"refresh":       "1m",
		"graphTooltip":  1,
		"time":          object{"from": "now-3h", "to": "now"},
		"templating":    object{"list": variables()},
		"annotations":   object{"list": []any{}},
		"panels":        place(rows()),
	}, "", "  ")
	return string(out) + "\n", err
}

func variables() []object {
	labelValues := func(name, title, definition string) object {
		return object{
			"name": name, "label": title, "type": "query", "datasource": source(), "definition": definition,
			"query": object{"query": definition, "refId": name}, "refresh": 2, "sort": 1,
			"multi": true, "includeAll": true, "allValue": ".*",
			"current": object{"text": []string{"All"}, "value": []string{"$__all"}},
		}
	}
	return []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
		labelValues("node", "Node", "label_values(sockmap_build_info, node)"),
		labelValues("namespace", "Namespace", `label_values(sockmap_active_flows{`+of+`}, namespace)`),
	}
}

func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// place gives each panel an id and a place on the grid.
func place(rows []row) []object {
	var out []object
	id, y := 0, 0
	for _, r := range rows {
		id++
		out = append(out, object{
			"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []any{},
			"gridPos": object{"h": 1, "w": 24, "x": 0, "y": y},
		})
		y++
		x, high := 0, 0
		for _, p := range r.panels {
			if x+p.wide > 24 {
				x, y, high = 0, y+high, 0
			}
			id++
			o := p.object()
			o["id"], o["gridPos"] = id, object{"h": p.high, "w": p.wide, "x": x, "y": y}
			out = append(out, o)
			x, high = x+p.wide, max(high, p.high)
		}
		y += high
	}
	return out
}

func (p panel) object() object {
	instant := p.kind != "timeseries"
	var targets []object
	for i, q := range p.queries {
		t := object{
			"refId": string(rune('A' + i)), "datasource": source(), "expr": q.expr, "legendFormat": q.legend,
			"instant": instant, "range": !instant,
		}
		if p.kind == "table" {
			t["format"] = "table"
		}
		targets = append(targets, t)
	}
	defaults := object{"unit": p.unit, "min": 0}
	options := object{}
	switch p.kind {
	case "timeseries":
		defaults["custom"] = object{"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
		options = object{"legend": object{"displayMode": "list", "placement": "bottom"},
			"tooltip": object{"mode": "multi", "sort": "desc"}}
	case "stat":
		options = object{"colorMode": "none", "reduceOptions": object{"calcs": []string{"lastNotNull"}}}
	}
	return object{
		"title": p.title, "description": p.about, "type": p.kind, "datasource": source(), "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": options,
	}
}
