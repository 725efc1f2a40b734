// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/agent"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

func TestWrongValuesAreRefused(t *testing.T) {
	c := load(t)
	for _, wrong := range []struct {
		path  string
		value any
		named string // name that the message must have
	}{
		{"cnl", map[string]any{}, "cnl"},
		{"cni.bindir", "/x", "bindir"},
		{"cni.config.maxSocket", 5, "maxSocket"},
		{"cni.config.acceptHazards", []any{"splice"}, "acceptHazards"},
		{"cni.config.maxSockets", 0, "maxSockets"},
		{"cni.config.maxSockets", "many", "maxSockets"},
		{"cni.config.peers", "cluster", "peers"},
		{"cni.config.ports", map[string]any{"includes": []any{"80"}}, "includes"},
		{"cni.config.bpffsPath", "/sys/fs/bpf/a.b", "bpffsPath"},
		{"cni.config.bpffsPath", "/elsewhere/sockmap", "cni.config.bpffsPath"},
		{"cni.acceptHazards", []any{"splcie"}, "acceptHazards"},
		{"cni.binDir", "opt/cni/bin", "binDir"},
		{"cni.binDir", "/opt/../bin", "binDir"},
		{"cni.binDir", "/usr/local/bin", "binDir"},
		{"cni.confName", "a/b.conflist", "confName"},
		{"cni.confName", "10-x.txt", "confName"},
		{"agent.reapInterval", "1", "reapInterval"},
		{"agent.readyMeans", "ready", "readyMeans"},
		{"agent.extraArgs", []any{"unload"}, "extraArgs"},
		{"uninstallHook.timeout", "4", "timeout"},
		{"host.mountPropagation", "Bidirectional", "mountPropagation"},
		{"metrics.port", 0, "port"},
		{"metrics.address", "localhost", "address"},
		{"metrics.podMonitor.intervall", "1m", "intervall"},
		{"image.digest", "sha256:1", "digest"},
		{"maxUnavailable", "0%", "maxUnavailable"},
		{"securityContext.extraCapabilities", []any{"ALL"}, "extraCapabilities"},
		{"securityContext.privileged", true, "privileged"},
	} {
		_, _, err := c.Render("r", "ns", nested(wrong.path, wrong.value))
		if err == nil {
			t.Errorf("%s: %v is taken", wrong.path, wrong.value)
		} else if !strings.Contains(err.Error(), wrong.named) {
			t.Errorf("%s: %v gives an error that does not name %s: %v", wrong.path, wrong.value, wrong.named, err)
		}
	}
}

// schemaOf finds a part of values.schema.json.
func schemaOf(t *testing.T, keys ...string) map[string]any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	part := map[string]any{}
	if err := json.Unmarshal(content, &part); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		part, _ = part[k].(map[string]any)
		if part == nil {
			t.Fatalf("no %v in the schema", keys)
		}
	}
	return part
}

func texts(t *testing.T, list any) (out []string) {
	t.Helper()
	for _, item := range list.([]any) {
		out = append(out, item.(string))
	}
	return out
}

func TestValuesOfReadyMeansAreThoseOfTheAgent(t *testing.T) {
	var want []string
	for _, r := range agent.Readinesses() {
		want = append(want, string(r))
	}
	readyMeans := schemaOf(t, "properties", "agent", "properties", "readyMeans")
	if got := texts(t, readyMeans["enum"]); !slices.Equal(got, want) {
		t.Errorf("the schema has %q, the agent %q", got, want)
	}
	c := load(t)
	for _, r := range want {
		args := render(t, c, "", nested("agent.readyMeans", r)).agent(t).Args
		if given := slices.Contains(args, "--ready-means="+r); given != (r != want[0]) {
			t.Errorf("%s, of which %s is the agent's default, gives %q", r, want[0], args)
		}
	}
}

// The plugin accepts what the schema accepts: each value at its bounds.
func TestPluginAcceptsWhatTheSchemaAccepts(t *testing.T) {
	c := load(t)
	for key, values := range map[string][]any{
		"enabled": {true, false}, "required": {true}, "cgroupPath": {"", "/kubepods"},
		"bpffsPath":  {"/sys/fs/bpf/x"},
		"maxSockets": {1, 4194304}, "maxBacklogBytes": {4096, 1073741824}, "maxBacklogMessages": {1, 1048576},
		"natRefreshSeconds": {0, 3600}, "coexist": {"yield", "share"}, "conntrackHelpers": {"avoid", "ignore"},
		"peers": {"node", "namespace", "pod"}, "ports": {map[string]any{"include": []any{"1", "65535"},
			"exclude": []any{"1-65535"}}},
		"guards": {[]any{}, []any{"splice"}}, "logLevel": {"debug", "error"},
		"logFile": {"", "/var/log/sockmap.log"},
	} {
		for _, v := range values {
			var config string
			for _, arg := range render(t, c, "", nested("cni.config."+key, v)).agent(t).Args {
				if text, ok := strings.CutPrefix(arg, "--config="); ok {
					config = text
				}
			}
			conf, err := cniconf.Parse([]byte(config))
			if err != nil {
				t.Errorf("%s: %v: the plugin refuses %s: %v", key, v, config, err)
			} else if len(conf.Warnings) > 0 {
				t.Errorf("%s: %v: the plugin warns of %s: %v", key, v, config, conf.Warnings)
			}
		}
	}
}

func TestOtherBPFFSIsPassedToPluginAndAgent(t *testing.T) {
	o := render(t, load(t), "", nested("host.bpffs", "/run/bpf"))
	a := o.agent(t)
	if !slices.Contains(a.Args, `--config={"bpffsPath":"/run/bpf/sockmap"}`) {
		t.Errorf("the plugin does not get it: %q", a.Args)
	}
	if a.Env[0].Name != "SOCKMAP_BPFFS_PATH" || a.Env[0].Value != "/run/bpf/sockmap" {
		t.Errorf("the agent does not get it: %v", a.Env)
	}
}

func TestStatusInThePodFindsTheEntries(t *testing.T) {
	a := render(t, load(t), "", nested("cni.confDir", "/etc/elsewhere")).agent(t)
	if a.Env[1].Name != "SOCKMAP_CNI_CONF_DIR" || a.Env[1].Value != "/etc/elsewhere" {
		t.Errorf("sockmapctl status in the pod looks elsewhere: %v", a.Env)
	}
}
