// SPDX-License-Identifier: Apache-2.0

// Package ask is what a test and a runtime that it has started say to each other: one line of JSON each way.
package ask

// A Request is one thing to do. What a runtime does not know of a pod is left out by the runtime, not by the test.
type Request struct {
	Verb string // add, check, del, gc, status, load; not every runtime has each

	Namespace, Name, UID string // of the pod
	ID                   string // of the sandbox
	NetNS                string
	CgroupParent         string            // of the pod, as the kubelet says it
	Annotations          map[string]string `json:",omitempty"`

	Valid []Request // gc: the pods that are there
}

// A Reply to one Request.
type Reply struct {
	Error string   `json:",omitempty"`
	IPs   []string `json:",omitempty"` // add, check
}

// Setup is how a runtime is told where its things are.
type Setup struct {
	ConfDir  string // of conflists
	BinDir   string // of plugins
	CacheDir string // of libcni, for runtimes with which that can be chosen
	Network  string // name of the default network
	Systemd  bool   // the cgroup driver
}
