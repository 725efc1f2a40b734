// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"errors"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// wrongValue is a configuration, and the content of its one error.
type wrongValue struct{ in, key, value, allowed string }

func wrongValues() []wrongValue { return append(wrongWords(), wrongSettings()...) }

func wrongWords() []wrongValue {
	long := strings.Repeat("x", 5000)
	const (
		boolean    = "the boolean true or false"
		cgroup     = `"" or an absolute path other than "/", without ".."`
		bpffs      = `an absolute path other than "/" with no dot in it (bpffs refuses names with dots)`
		port       = `a port such as "80" or a range such as "8000-8999", from 1 to 65535`
		guard      = "one of splice, observe, blocking, options, fionread"
		attachment = "an object with the strings containerID and ifname"
	)
	hazards := "one of all"
	for _, h := range hazard.Table {
		hazards += ", " + h.Name
	}
	return []wrongValue{
		{`{"enabled": "true"}`, "enabled", `"true"`, boolean},
		{`{"enabled": 1}`, "enabled", `1`, boolean},
		{`{"required": {"a" : [ 1 ]}}`, "required", `{"a":[1]}`, boolean},
		{`{"cgroupPath": "kubepods/pod1"}`, "cgroupPath", `"kubepods/pod1"`, cgroup},
		{`{"cgroupPath": "/"}`, "cgroupPath", `"/"`, cgroup},
		{`{"cgroupPath": "//."}`, "cgroupPath", `"//."`, cgroup},
		{`{"cgroupPath": "/a/../b"}`, "cgroupPath", `"/a/../b"`, cgroup},
		{`{"cgroupPath": "/a\u0000b"}`, "cgroupPath", `"/a\u0000b"`, cgroup},
		{`{"cgroupPath": 7}`, "cgroupPath", `7`, cgroup},
		{`{"cgroupPath": "/` + long + `"}`, "cgroupPath", `"/` + long[:78] + `...`, cgroup},
		{`{"bpffsPath": ""}`, "bpffsPath", `""`, bpffs},
		{`{"bpffsPath": "/"}`, "bpffsPath", `"/"`, bpffs},
		{`{"bpffsPath": "sys/fs/bpf"}`, "bpffsPath", `"sys/fs/bpf"`, bpffs},
		{`{"bpffsPath": "/sys/fs/bpf/v1.2"}`, "bpffsPath", `"/sys/fs/bpf/v1.2"`, bpffs},
		{`{"bpffsPath": "/sys/../bpf"}`, "bpffsPath", `"/sys/../bpf"`, bpffs},
		{`{"peers": "cluster"}`, "peers", `"cluster"`, "one of node, namespace, pod"},
		{`{"peers": "Node"}`, "peers", `"Node"`, "one of node, namespace, pod"},
		{`{"peers": ["node"]}`, "peers", `["node"]`, "one of node, namespace, pod"},
		{`{"ports": ["80"]}`, "ports", `["80"]`, "an object with the lists include and exclude"},
		{`{"ports": {"include": "80"}}`, "ports.include", `"80"`, "a list of ports"},
		{`{"ports": {"include": [80]}}`, "ports.include[0]", `80`, port},
		{`{"ports": {"include": ["80", "http"]}}`, "ports.include[1]", `"http"`, port},
		{`{"ports": {"exclude": ["80", "81", "0"]}}`, "ports.exclude[2]", `"0"`, port},
		{`{"ports": {"exclude": ["65536"]}}`, "ports.exclude[0]", `"65536"`, port},
		{`{"ports": {"exclude": ["9-8"]}}`, "ports.exclude[0]", `"9-8"`, port},
		{`{"ports": {"exclude": ["80-"]}}`, "ports.exclude[0]", `"80-"`, port},
		{`{"ports": {"exclude": ["-80"]}}`, "ports.exclude[0]", `"-80"`, port},
		{`{"ports": {"exclude": ["1-2-3"]}}`, "ports.exclude[0]", `"1-2-3"`, port},
		{`{"ports": {"exclude": [" 80"]}}`, "ports.exclude[0]", `" 80"`, port},
		{`{"ports": {"exclude": [null]}}`, "ports.exclude[0]", `null`, port},
		{`{"acceptHazards": "all"}`, "acceptHazards", `"all"`, "a list of names of hazards"},
		{`{"acceptHazards": ["splice", "splcie"]}`, "acceptHazards[1]", `"splcie"`, hazards},
		{`{"acceptHazards": [null]}`, "acceptHazards[0]", `null`, hazards},
		{`{"guards": "splice"}`, "guards", `"splice"`, "a list of names of guards"},
		{`{"guards": ["splice", "all"]}`, "guards[1]", `"all"`, guard},
		{`{"logLevel": "trace"}`, "logLevel", `"trace"`, "one of debug, info, warn, error"},
		{`{"logLevel": 0}`, "logLevel", `0`, "one of debug, info, warn, error"},
		{`{"logFile": "sockmap.log"}`, "logFile", `"sockmap.log"`,
			`"" or an absolute path of a file, without ".."`},
		{`{"name": 1}`, "name", `1`, "a string"},
		{`{"prevResult": "x"}`, "prevResult", `"x"`, "an object"},
		{`{"prevResult": [{}]}`, "prevResult", `[{}]`, "an object"},
		{
			`{"cni.dev/valid-attachments": {}}`, "cni.dev/valid-attachments", `{}`,
			"a list of objects with containerID and ifname",
		},
		{
			`{"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b"}]}`,
			"cni.dev/valid-attachments[1]", `{"containerID":"b"}`, attachment,
		},
		{`{"cni.dev/attachments": [7]}`, "cni.dev/attachments[0]", `7`, attachment},
	}
}

// wrongSettings are wrong values of the keys that concern the whole node.
func wrongSettings() []wrongValue {
	const (
		sockets  = "a whole number from 1 to 4194304"
		backlog  = "a whole number from 4096 to 1073741824"
		messages = "a whole number from 1 to 1048576"
		refresh  = "a whole number from 0 to 3600"
	)
	return []wrongValue{
		{`{"maxSockets": 0}`, "maxSockets", `0`, sockets},
		{`{"maxSockets": -1}`, "maxSockets", `-1`, sockets},
		{`{"maxSockets": 1.5}`, "maxSockets", `1.5`, sockets},
		{`{"maxSockets": 1e3}`, "maxSockets", `1e3`, sockets},
		{`{"maxSockets": 4194305}`, "maxSockets", `4194305`, sockets},
		{`{"maxSockets": 4294967297}`, "maxSockets", `4294967297`, sockets},
		{`{"maxSockets": 18446744073709551617}`, "maxSockets", `18446744073709551617`, sockets},
		{`{"maxSockets": "65536"}`, "maxSockets", `"65536"`, sockets},
		{`{"maxBacklogBytes": 4095}`, "maxBacklogBytes", `4095`, backlog},
		{`{"maxBacklogBytes": 1073741825}`, "maxBacklogBytes", `1073741825`, backlog},
		{`{"maxBacklogMessages": 0}`, "maxBacklogMessages", `0`, messages},
		{`{"maxBacklogMessages": 1048577}`, "maxBacklogMessages", `1048577`, messages},
		{`{"natRefreshSeconds": 3601}`, "natRefreshSeconds", `3601`, refresh},
		{`{"natRefreshSeconds": -1}`, "natRefreshSeconds", `-1`, refresh},
		{`{"natRefreshSeconds": 0.5}`, "natRefreshSeconds", `0.5`, refresh},
		{`{"natRefreshSeconds": "60s"}`, "natRefreshSeconds", `"60s"`, refresh},
		{`{"coexist": "Yield"}`, "coexist", `"Yield"`, "one of yield, share"},
		{`{"coexist": true}`, "coexist", `true`, "one of yield, share"},
		{`{"conntrackHelpers": ""}`, "conntrackHelpers", `""`, "one of avoid, ignore"},
		{`{"conntrackHelpers": ["avoid"]}`, "conntrackHelpers", `["avoid"]`, "one of avoid, ignore"},
	}
}

func TestWrongValuesAreRefusedByKeyAndValue(t *testing.T) {
	for _, tt := range wrongValues() {
		t.Run(tt.key+" "+tt.value[:min(len(tt.value), 30)], func(t *testing.T) {
			conf, err := Parse([]byte(tt.in))
			if conf != nil {
				t.Errorf("got a configuration besides the error: %+v", conf)
			}
			var got *FieldError
			if !errors.As(err, &got) {
				t.Fatalf("got error %v, want a *FieldError", err)
			}
			if diff := cmp.Diff(&FieldError{tt.key, tt.value, tt.allowed}, got); diff != "" {
				t.Error(diff)
			}
			if want := tt.key + ": " + tt.value + " is not " + tt.allowed; err.Error() != want {
				t.Errorf("got text %q, want %q", err, want)
			}
			// The same input must not stop a DEL, and must not leave anything of the wrong value behind.
			lenient, err := ParseLenient([]byte(tt.in))
			if err != nil {
				t.Fatal("lenient:", err)
			}
			want := defaults()
			want.Warnings = []string{"ignored: " + got.Error()}
			if diff := cmp.Diff(want, lenient); diff != "" {
				t.Error("lenient:", diff)
			}
		})
	}
}
