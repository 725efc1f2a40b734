// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// recordCall records the duration and the error of this call for the metrics. It is the last step of a call,
// takes a few microseconds, and never makes a call fail.
func (h *handler) recordCall(verb string, failed *types.Error) {
	if h.dir == "" {
		return
	}
	k := datapath.CallKey{Command: verb}
	if e := cmp.Or(failed, h.suppressed); e != nil {
		k.Code, k.Withheld = uint32(e.Code), failed == nil || suppressDELError(verb, failed)
	}
	if err := datapath.RecordCall(h.dir, k, time.Since(h.began)); err != nil {
		h.logger(nil, nil).Debug("record this call", "error", err)
	}
}
