// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// defaultFile is what packages install as installedFile.
const (
	defaultFile   = "../../conf/systemd/agent.yaml"
	installedFile = "/etc/sockmap-cni/agent.yaml"
)

// prepared runs the checks of a command with a file, and returns the command.
func prepared(t *testing.T, command func(*app) *cobra.Command, text string,
	args ...string) (*cobra.Command, *app, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{env: env{getenv: func(string) string { return "" }}}
	root := rootCommand(a) // gives --bpffs-path
	cmd := command(a)
	root.AddCommand(cmd)
	if err := cmd.ParseFlags(append([]string{"--config-file", path}, args...)); err != nil {
		t.Fatal(err)
	}
	return cmd, a, cmd.PreRunE(cmd, nil)
}

// uncommented makes each key of the default file count.
func uncommented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(defaultFile)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^( *)#([a-zA-Z-]+: )`).ReplaceAllString(string(text), "$1$2")
}

func TestTheDefaultFileChangesNothing(t *testing.T) {
	text, err := os.ReadFile(defaultFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd, _, err := prepared(t, agentCommand, string(text))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[fromFile] != nil {
			t.Errorf("it sets %s", f.Name)
		}
	})
}

func TestTheDefaultFileNamesEveryKeyWithItsDefault(t *testing.T) {
	text := uncommented(t)
	cmd, _, err := prepared(t, agentCommand, text)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := inEntry[f.Name]; ok || f.Name == configFileFlag || f.Name == "help" {
			return
		}
		if f.Annotations[fromFile] == nil {
			t.Errorf("it has no line \"#%s: %s\"", f.Name, f.DefValue)
		}
		if f.Value.String() != f.DefValue {
			t.Errorf("it says that the default of %s is %s, which is %s", f.Name, f.Value, f.DefValue)
		}
	})
	c := &configFile{path: "agent.yaml"}
	top, err := c.document(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i].Value == entryKey {
			c.entry, err = c.newEntry(top.Content[i+1])
		}
	}
	if err != nil || c.entry == nil {
		t.Fatalf("the entry: %v", err)
	}
	for _, name := range cniconf.KeyNames() {
		if _, ok := c.entry.values[name]; !ok {
			t.Errorf("the entry has no line for %s", name)
		}
	}
	got, err := install.NewEntry(c.entry.json(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := install.NewEntry("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprintf("%+v", *want.Conf), fmt.Sprintf("%+v", *got.Conf)); diff != "" {
		t.Errorf("its entry is not the default: %s", diff)
	}
}

func TestTheCommandLineWins(t *testing.T) {
	const text = "listen: 127.0.0.1:1\nlog-format: json\nper-pod: false\nmax-pods: 7\nreap-interval: 5m\n" +
		"cni-cache-dir: [/a, /b]\nentry:\n  peers: pod\n  maxSockets: 999\n  ports: {include: [\"80\"]}\n"
	flags := []string{"--config", `{"peers":"namespace","required":true}`, "--accept-hazards", "splice"}
	cmd, _, err := prepared(t, agentCommand, text, append(flags, "--listen", "127.0.0.1:2")...)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listen": "127.0.0.1:2", "log-format": "json", "per-pod": "false", "max-pods": "7", "reap-interval": "5m0s",
		"cni-cache-dir": "[/a,/b]", "recheck-interval": "30s",
	} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	var f installFlags
	entryOf(t, &f, text, flags...)
	const want = `{"type":"sockmap","capabilities":{"cgroupPath":true,"io.kubernetes.cri.pod-annotations":true},` +
		`"peers":"namespace","maxSockets":999,"ports":{"include":["80"]},"required":true,"acceptHazards":["splice"]}`
	if f.entry.String() != want {
		t.Errorf("the entry is\n%s, want\n%s", f.entry.String(), want)
	}
}

// entryOf makes the entry of a file and of flags.
func entryOf(t *testing.T, f *installFlags, text string, args ...string) *app {
	t.Helper()
	_, a, err := prepared(t, func(a *app) *cobra.Command {
		cmd := &cobra.Command{Use: "try"}
		f.flags(a, cmd)
		return cmd
	}, text, args...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConfigurationFileNamesTheStateDirectory(t *testing.T) {
	const text = "entry:\n  bpffsPath: /sys/fs/bpf/of-file\n"
	var f installFlags
	if a := entryOf(t, &f, text); a.dir != "/sys/fs/bpf/of-file" {
		t.Errorf("install uses %s", a.dir)
	}
	if _, a, err := prepared(t, uninstallCommand, text); err != nil || a.dir != "/sys/fs/bpf/of-file" {
		t.Errorf("uninstall uses %s, %v", a.dir, err)
	}
	var won installFlags
	if a := entryOf(t, &won, text, "--bpffs-path", "/sys/fs/bpf/of-flag"); a.dir != "/sys/fs/bpf/of-flag" ||
		won.entry.Conf.BPFFSPath != a.dir {
		t.Errorf("with --bpffs-path install uses %s, and the plugin %s", a.dir, won.entry.Conf.BPFFSPath)
	}
	_, a, err := prepared(t, uninstallCommand, text, "--bpffs-path", "/sys/fs/bpf/of-flag")
	if err != nil || a.dir != "/sys/fs/bpf/of-flag" {
		t.Errorf("with --bpffs-path uninstall uses %s, %v", a.dir, err)
	}
}

func TestErrorsInTheConfigurationFileNameTheLine(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"listen: 127.0.0.1:1\nlitsen: x\n", `agent.yaml:2: litsen: unknown key (did you mean listen?)`},
		{"colour: blue\n",
			`agent.yaml:1: colour: unknown key (keys are entry and the flags of: sockmapctl agent --help)`},
		{"peers: pod\n", `agent.yaml:1: peers: unknown key (write it below entry)`},
		{"bpffs-path: /x\n", `agent.yaml:1: bpffs-path: it is no key of the file (write bpffsPath below entry)`},
		{"accept-hazards: [all]\n",
			`agent.yaml:1: accept-hazards: it is no key of the file (write acceptHazards below entry)`},
		{"config: {}\n",
			`agent.yaml:1: config: it is no key of the file (write the keys of the entry below entry)`},
		{"help: true\n", `agent.yaml:1: help: unknown key`},
		{"\nper-pod: maybe\n", `agent.yaml:2: per-pod: "maybe" is not true or false`},
		{"max-pods: 1.5\n", `agent.yaml:1: max-pods: 1.5 is not a whole number`},
		{"reap-interval: 30\n", `agent.yaml:1: reap-interval: 30 is not a time such as 30s or 5m`},
		{"reap-interval: soon\n", `agent.yaml:1: reap-interval: "soon" is not a time such as 30s or 5m`},
		{"listen: 9469\n", `agent.yaml:1: listen: 9469 is not text (put it into quotes)`},
		{"listen:\n", `agent.yaml:1: listen: it has no value (make the line a comment, to have the default)`},
		{"cni-cache-dir: /var/lib/cni\n",
			`agent.yaml:1: cni-cache-dir: "/var/lib/cni" is not a list of texts such as [one, two]`},
		{"cni-cache-dir: [1]\n", `agent.yaml:1: cni-cache-dir: [1] is not a list of texts`},
		{"listen: a:1\nlisten: b:1\n", `agent.yaml:2: listen: it is there twice (leave one out)`},
		{"listen nowhere\n", `agent.yaml:1: not keys with values`},
		{"listen: a:1\na: b: c\n", `agent.yaml:2: mapping values are not allowed in this context`},
		{"per-pod: true\n---\nper-pod: false\n", `a second document begins`},
		// The commands check the values of flags, from the file as from the command line.
		{"\nlog-format: xml\n", `agent.yaml:2: log-format: "xml" is not text or json`},
		{"listen: nowhere\n", `agent.yaml:1: listen: address nowhere: missing port`},
		{"cni-conf-dir: net.d\n", `agent.yaml:1: cni-conf-dir: "net.d" is not an absolute path`},
		{"max-pods: -1\nreap-interval: 1ms\n",
			"agent.yaml:1: max-pods: -1 is less than 0\nFILE:2: reap-interval: 1ms is less"},
		// The entry.
		{"entry:\n  peers: cluster\n", `agent.yaml:2: entry.peers: "cluster" is not one of node, namespace, pod`},
		{"entry:\n  peerz: pod\n", `agent.yaml:2: entry.peerz: unknown key (did you mean "peers"?)`},
		{"entry:\n  colour: blue\n", `agent.yaml:2: entry.colour: unknown key (keys: enabled, required,`},
		{"entry:\n  ports:\n    include:\n      - 80\n", `agent.yaml:4: entry.ports.include[0]: 80 is not`},
		{
			"entry:\n  required: 1\n  maxSockets: many\n",
			"agent.yaml:2: entry.required: 1 is not the boolean true or false\nFILE:3: entry.maxSockets: \"many\" is not",
		},
		{"entry:\n  name: net\n",
			`agent.yaml:2: entry.name: it belongs to the list or to the runtime, not to the entry (leave it out)`},
		{"entry:\n  type: ptp\n", `agent.yaml:2: entry.type: "ptp" is not "sockmap"`},
		{"entry: [peers]\n", `agent.yaml:1: entry: [peers] is not keys with values`},
		{"entry:\n  peers: pod\n  peers: node\n", `agent.yaml:3: entry.peers: it is there twice`},
	} {
		cmd, _, err := prepared(t, agentCommand, tt.text)
		if err == nil {
			t.Errorf("%q: no error", tt.text)
			continue
		}
		path := cmd.Flags().Lookup(configFileFlag).Value.String()
		if want := strings.ReplaceAll(tt.want, "FILE", path); !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v, want\n%s", tt.text, err, want)
		}
	}
}

// install and uninstall accept the same file, with keys of the agent only, and refuse what the agent refuses.
func TestInstallAndUninstallAcceptTheFileOfTheAgent(t *testing.T) {
	for name, command := range map[string]func(*app) *cobra.Command{"install": installCommand,
		"uninstall": uninstallCommand} {
		if _, _, err := prepared(t, command, uncommented(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := prepared(t, command, "max-pods: many\n"); err == nil {
			t.Errorf("%s takes a file that the agent refuses", name)
		}
		cmd, _, err := prepared(t, command, "cni-conf-dir: /of/file\n", "--cni-bin-dir", "/of/flag")
		if err != nil {
			t.Fatal(err)
		}
		if got := cmd.Flags().Lookup("cni-conf-dir").Value.String(); got != "/of/file" {
			t.Errorf("%s: the directory is %s", name, got)
		}
	}
}

func TestThePluginOfAPackageIsFound(t *testing.T) {
	top := t.TempDir()
	self, packaged := filepath.Join(top, "bin/sockmapctl"), filepath.Join(top, packagedPlugin)
	beside := filepath.Join(top, "bin", install.PluginType)
	if got := pluginFor(self); got != beside {
		t.Errorf("with neither it is %s", got)
	}
	for _, path := range []string{packaged, beside} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if got := pluginFor(self); got != path {
			t.Errorf("it is %s, want %s", got, path)
		}
	}
}
