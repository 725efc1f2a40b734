// SPDX-License-Identifier: Apache-2.0

// Command generate writes the committed files below conf/ that have another source: the plain manifests, from
// the chart, and the Grafana dashboard, from its description in Go.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/test/packaging/chart"
	"github.com/sockmap-cni/sockmap-cni/test/packaging/monitoring"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIRECTORY   (conf of the repository)")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(conf string) error {
	dashboard, err := monitoring.Dashboard()
	if err != nil {
		return err
	}
	alerts, err := os.ReadFile(filepath.Join(conf, "monitoring", "alerts.yaml"))
	if err != nil {
		return err
	}
	if err := write(filepath.Join(conf, "monitoring"),
		map[string]string{"dashboard.json": dashboard}); err != nil {
		return err
	}
	// Charts cannot read files outside of their directory.
	copies := map[string]string{"dashboard.json": dashboard, "alerts.yaml": string(alerts)}
	if err := write(filepath.Join(conf, "kubernetes", "chart", "files"), copies); err != nil {
		return err
	}
	c, err := chart.Load(filepath.Join(conf, "kubernetes", "chart"))
	if err != nil {
		return err
	}
	manifests, err := c.Manifests()
	if err != nil {
		return err
	}
	dir := filepath.Join(conf, "kubernetes", "manifests")
	// The manifest of a removed platform is removed.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return write(dir, manifests)
}

func write(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
