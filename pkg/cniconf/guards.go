// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"slices"
	"strings"
)

// Guard is a program that makes redirected sockets behave where the kernel does not.
type Guard struct {
	Name    string // as in the key guards
	Summary string // what it does, one clause
}

// Guards is the table of all of them. It is never written.
var Guards = [...]Guard{
	{"splice", "splice(2) out of a redirected socket fails with EINVAL, so that its caller falls back to read and write"},
	{"observe", "a flow is redirected once it is known how its reader receives; MSG_WAITALL, MSG_TRUNC and MSG_OOB keep it on TCP; calls that the kernel answers otherwise on such a socket are answered as by TCP"},
	{"blocking", "readers that wait inside receive calls stay on TCP, where a signal does not end such a call; needs observe"},
	{"options", "SO_ZEROCOPY, TCP_ULP and TCP_INQ are refused on a socket that is in a flow; TCP_INFO counts redirected bytes, too"},
	{"fionread", "FIONREAD counts redirected bytes and those that came by TCP; loaded only where a probe finds that the kernel leaves one of them out"},
}

// GuardNames lists the names of all guards.
func GuardNames() []string {
	names := make([]string, 0, len(Guards))
	for _, g := range Guards {
		names = append(names, g.Name)
	}
	return names
}

func (v value) guards() {
	items, ok := v.list()
	if !ok {
		return
	}
	before, known := len(v.wrong), GuardNames()
	wanted := []string{} // unlike nil, none at all
	for i, raw := range items {
		name, _ := str(raw)
		if !slices.Contains(known, name) {
			v.item(i, raw, "one of "+strings.Join(known, ", ")).reject()
		}
		wanted = append(wanted, name)
	}
	if len(v.wrong) == before {
		v.conf.Guards = wanted
	}
}

// GuardsOff returns the names of the guards that are not to run, in the order of Guards.
func (c *Conf) GuardsOff() []string {
	return slices.DeleteFunc(GuardNames(), func(name string) bool { return slices.Contains(c.Guards, name) })
}
