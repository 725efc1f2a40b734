// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/bundle"
)

const (
	// hostConfigFile is the file that the packages install for the agent of the systemd unit.
	hostConfigFile = "/etc/sockmap-cni/agent.yaml"
	// partTime bounds one part, so that a part that hangs does not hold up the others.
	partTime = 30 * time.Second
	// configBytes bounds the configuration file; real ones are much smaller.
	configBytes = 1 << 20
)

// bundleParts never fails: an error belongs to the part that could not be read.
func (a *app) bundleParts(ctx context.Context, o *bundleOptions) []bundle.Part {
	entries := install.Entries(o.pods.confDir)
	return slices.Concat(
		a.commandParts(ctx, &o.pods),
		[]bundle.Part{
			jsonPart("neighbours.json", "sock_ops programs of others in the cgroups", func() (any, error) {
				return readNeighbours(a.node(datapath.Settings{}))
			}),
			jsonPart("kernel.json", "the kernel, its configuration, and mounts of bpffs and cgroups",
				func() (any, error) {
					return bundle.ReadKernel(cmp.Or(a.host.files, "/"))
				}),
			jsonPart("entries.json", "the plugin's entries below "+o.pods.confDir+", with defaults",
				func() (any, error) {
					_, err := install.ValidEntries(o.pods.confDir)
					return append([]*cniconf.Conf{}, entries...), err
				}),
		},
		configPart(o.configFile),
		logParts(entries, o.logBytes),
	)
}

// commandParts are the outputs of this program's own commands.
func (a *app) commandParts(ctx context.Context, f *podFlags) []bundle.Part {
	pods := []string{"--cri", f.cri, "--kubelet", f.kubelet, "--kubelet-token", f.tokenFile, "--cni-conf-dir",
		f.confDir,
		"--cni-cache-dir", strings.Join(f.cacheDirs, ",")}
	var parts []bundle.Part
	for _, c := range []struct {
		file string
		args []string
	}{
		{"version.json", []string{"version", "-o", formatJSON}},
		{"status.json", append([]string{"status", "-o", formatJSON}, pods...)},
		{"doctor.json", []string{"doctor", "-o", formatJSON}},
		{"attachments.json", append([]string{"attachments", "--all", "-o", formatJSON}, pods...)},
		{"flows.json", []string{"flows", "-o", formatJSON}},
		{"avoided.json", []string{"avoided", "-o", formatJSON}},
		{"policy.json", append([]string{"policy", "-o", formatJSON}, pods...)},
		{"metrics.txt", []string{"metrics"}},
	} {
		parts = append(parts, a.commandPart(ctx, c.file, c.args))
	}
	return parts
}

func (a *app) commandPart(ctx context.Context, file string, args []string) bundle.Part {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	var out, complaint bytes.Buffer
	e := a.env
	e.stdout, e.stderr, e.width = &out, &complaint, 0
	what, _, _ := strings.Cut("sockmapctl "+strings.Join(args, " "), " --cri ")
	p := bundle.Part{Name: file, What: what, Exit: run(ctx, e, append(args, "--bpffs-path", a.dir))}
	if out.Len() > 0 {
		p.Content = out.Bytes()
	}
	// An exit code is not an error if the command has printed its result.
	if complaint.Len() > 0 || p.Content == nil && p.Exit != exitOK {
		p.Err = fmt.Errorf("exit code %d: %s", p.Exit, strings.TrimSpace(complaint.String()))
	}
	return p
}

func jsonPart(file, what string, read func() (any, error)) bundle.Part {
	p := bundle.Part{Name: file, What: what}
	v, err := read()
	p.Err = err
	if content, failed := json.Marshal(v); failed != nil {
		p.Err = errors.Join(p.Err, failed)
	} else if string(content) != "null" {
		p.Content = content
	}
	return p
}

// configPart is empty if the default file does not exist, as in the agent's container.
func configPart(path string) []bundle.Part {
	content, err := bundle.ReadFile(cmp.Or(path, hostConfigFile), configBytes)
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []bundle.Part{{Name: "agent.yaml", What: "the configuration file of the agent", Content: content,
		Err: err}}
}

// logParts are the last lines of the log files that entries name.
func logParts(entries []*cniconf.Conf, limit int64) (parts []bundle.Part) {
	var seen []string
	for _, e := range entries {
		if e.LogFile == "" || limit == 0 || slices.Contains(seen, e.LogFile) {
			continue
		}
		seen = append(seen, e.LogFile)
		content, err := bundle.ReadFile(e.LogFile, limit)
		name := "plugin.log"
		if len(seen) > 1 {
			name = fmt.Sprintf("plugin-%d.log", len(seen))
		}
		parts = append(parts,
			bundle.Part{Name: name, What: "the end of logFile, " + filepath.Base(e.LogFile), Content: content,
				Err: err})
	}
	return parts
}
