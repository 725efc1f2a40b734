// SPDX-License-Identifier: Apache-2.0

package hazard

// Guard is a set of programs that make redirected sockets behave where the kernel's own code for them does
// not. See bpf/guard.bpf.c.
type Guard struct {
	Name    string // as in the key guards
	Meaning string // what it does, one clause
	Tracing bool   // of tracing programs, which not every kernel loads
}

// Names of the guards.
const (
	GuardSplice   = "splice"
	GuardObserve  = "observe"
	GuardBlocking = "blocking" // a part of the work of GuardObserve's programs
	GuardOptions  = "options"
	GuardFionread = "fionread"
)

// Guards has every guard, in the order of documents. Nobody writes to it.
var Guards = [...]Guard{
	{GuardSplice, "splice(2) out of a redirected socket fails with EINVAL, so that its caller falls back to " +
		"read and write", true},
	{
		GuardObserve, "a flow is redirected once it is known how its reader receives; MSG_WAITALL, MSG_TRUNC and " +
			"MSG_OOB keep it on TCP; calls whose result the kernel gets wrong on a redirected socket return that of " +
			"TCP", true,
	},
	{
		GuardBlocking,
		"readers that wait inside receive calls stay on TCP, where a signal does not end such a call; " +
			"needs observe", true,
	},
	{
		GuardOptions, "SO_ZEROCOPY, TCP_ULP and TCP_INQ are refused on a socket that is in a flow; TCP_INFO " +
			"counts redirected bytes, too", false,
	},
	{
		GuardFionread, "FIONREAD counts redirected bytes and those that came over TCP; loaded only where a probe " +
			"finds that the kernel leaves one of them out", true,
	},
}

// GuardNames lists the names of all guards, in the order of Guards.
func GuardNames() []string {
	names := make([]string, 0, len(Guards))
	for _, g := range Guards {
		names = append(names, g.Name)
	}
	return names
}
