// SPDX-License-Identifier: Apache-2.0

package hazard

// Guard is a set of programs that cure a hazard: they make calls on redirected sockets behave as on TCP. See
// bpf/guard.bpf.c.
type Guard struct {
	Name    string // as in the key guards
	Meaning string // what it does, one clause
	Tracing bool   // it consists of tracing programs, which some kernels do not load
}

// Names of the guards.
const (
	GuardSplice   = "splice"
	GuardObserve  = "observe"
	GuardBlocking = "blocking" // uses the programs of GuardObserve
	GuardOptions  = "options"
	GuardFionread = "fionread"
)

// Guards has every guard, in the order of documents. Nobody writes to it.
var Guards = [...]Guard{
	{
		GuardSplice, "splice(2) out of a redirected socket fails with EINVAL, so that programs fall back to read " +
			"and write", true,
	},
	{
		GuardObserve, "a flow is redirected only after it is known how its reader receives; MSG_WAITALL, " +
			"MSG_TRUNC, MSG_OOB and splice(2) keep it on TCP; calls that have another result on a redirected socket " +
			"return that of TCP", true,
	},
	{
		GuardBlocking, "programs that block in receive calls stay on TCP, because such a call can wrongly return " +
			"EAGAIN on a redirected socket; needs observe", true,
	},
	{
		GuardOptions, "SO_ZEROCOPY, TCP_ULP and TCP_INQ are refused on a socket in the sockhash; TCP_INFO " +
			"includes redirected bytes", false,
	},
	{
		GuardFionread, "FIONREAD counts redirected bytes and those that came over TCP; loaded only if a probe " +
			"finds that the kernel does not count one of them", true,
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
