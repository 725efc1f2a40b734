// SPDX-License-Identifier: Apache-2.0

// Package ask is the protocol between a test and a runtime that it has started: one line of JSON in each
// direction.
package ask

// A Request is one operation. The runtime omits what it does not know of a pod; the test sends everything.
type Request struct {
	Verb string // add, check, del, gc, status, load; not every runtime has each

	Namespace, Name, UID string // the pod's
	ID                   string // id of the sandbox
	NetNS                string
	CgroupParent         string            // the pod's cgroup, as the kubelet passes it
	Annotations          map[string]string `json:",omitempty"`

	Valid []Request // gc: the pods that are there
}

// A Reply to one Request.
type Reply struct {
	Error string   `json:",omitempty"`
	IPs   []string `json:",omitempty"` // add, check
}

// Setup has the paths of a runtime.
type Setup struct {
	ConfDir  string // directory of conflists
	BinDir   string // directory of plugins
	CacheDir string // libcni's cache, for runtimes with a setting for it
	Network  string // name of the default network
	Systemd  bool   // the cgroup driver
}
