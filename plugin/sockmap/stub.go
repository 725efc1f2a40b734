// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/containernetworking/cni/pkg/skel"

// stubFuncs are the verbs of the stub that an uninstall leaves, see package stub: DEL, CHECK, GC and STATUS
// succeed, and so does the ADD of a runtime that has not read its changed configuration yet. Nothing is
// loaded, read or written.
func (h *handler) stubFuncs() skel.CNIFuncs {
	done := func(*skel.CmdArgs) error { return nil }
	return skel.CNIFuncs{Add: h.stubAdd, Del: done, Check: done, GC: done, Status: done}
}

// stubAdd is an ADD that does nothing. It succeeds even with "required": the plugin was uninstalled.
func (h *handler) stubAdd(args *skel.CmdArgs) error {
	conf := h.parseLenient(args)
	if conf.PrevResult == nil {
		return errorWithCode(errNotChained)
	}
	h.setResult(conf)
	return nil
}
