// SPDX-License-Identifier: Apache-2.0

package known

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// An Effect describes how a difference affects a program.
type Effect string

// The order is from none to the worst.
const (
	// Harmless: a program that follows the manual pages works the same, if necessary by its fallback.
	Harmless Effect = "harmless"
	// Visible: a program that checks can see it, but works.
	Visible Effect = "visible"
	// Fails: a call fails that would not fail on TCP, or a process gets a signal.
	Fails Effect = "fails"
	// Hangs: a program waits for ever.
	Hangs Effect = "hangs"
	// Loses: bytes are missing, without an error.
	Loses Effect = "loses data"
)

// allows reports whether a difference with this effect may have these observations.
func (e Effect) allows(hangs, loses bool) bool {
	switch e {
	case Loses:
		return true
	case Hangs:
		return !loses
	default:
		return !hangs && !loses
	}
}

// A Reason explains why cases differ.
type Reason struct {
	// Name refers to the reason in expected.go.
	Name string
	// Text is a sentence or two for docs/TRANSPARENCY.md.
	Text   string
	Effect Effect
	// Refusal: a call fails as on a kernel that lacks the feature, and programs have a fallback.
	Refusal bool
	// Hazard is the hazard's name in acceptHazards, if it is one.
	Hazard string
	// Guard cures it if it runs. Then is the reason of the differences that remain with the guard, empty if
	// none may remain.
	Guard string
	Then  string
}

// reasons is the table. It is never modified.
var reasons = [...]Reason{
	{
		Name: "splice", Effect: Loses, Hazard: "splice", Guard: datapath.GuardSplice, Then: "splice-refused",
		Text: "splice(2) out of a socket reads TCP's queue only: it does not see redirected bytes, and at the " +
			"end of the stream it returns 0 as if there were none. Go's io.Copy, HAProxy and others move data " +
			"this way.",
	},
	{
		Name: "splice-refused", Effect: Harmless, Refusal: true,
		Text: "splice(2) out of an accelerated socket is refused with EINVAL, and programs then use read and " +
			"write.",
	},
	{
		Name: "splice-by-io_uring", Effect: Hangs, Hazard: "splice", Guard: datapath.GuardSplice,
		Then: "splice-refused",
		Text: "IORING_OP_SPLICE out of a socket reads TCP's queue only.",
	},
	{
		Name: "waitall", Effect: Loses, Guard: datapath.GuardObserve, Then: "late",
		Text: "MSG_WAITALL returns before the buffer is full. A program that relies on it loses its place in " +
			"the stream.",
	},
	{
		Name: "late", Effect: Fails,
		Text: "If a program changes its way to read while redirected bytes wait, the old way still applies to " +
			"those bytes: the first MSG_WAITALL or waiting call may return early, MSG_TRUNC does not discard, " +
			"SO_RCVLOWAT does not apply to them. Messages that are sent from then on use TCP, and so do later " +
			"connections to the same port.",
	},
	{
		Name: "tls-refused", Effect: Harmless, Refusal: true,
		Text: "kTLS on an accelerated socket is refused with ENOENT, as on a kernel without it, and programs " +
			"then encrypt in user space.",
	},
	{
		Name: "urgent", Effect: Visible, Guard: datapath.GuardObserve,
		Text: "The urgent byte of MSG_OOB arrives in line, as with SO_OOBINLINE, without a mark or an " +
			"exceptional condition.",
	},
	{
		Name: "urgent-none", Effect: Hangs, Guard: datapath.GuardObserve,
		Text: "recv(MSG_OOB) without an urgent byte waits for data instead of returning EINVAL. Programs " +
			"normally call it after SIGURG or poll has announced the byte.",
	},
	{
		Name: "fionread-tcp", Effect: Hangs, Hazard: "fionread-tcp", Guard: datapath.GuardFionread,
		Text: "FIONREAD counts redirected bytes only, on kernels with an error that was corrected later (see " +
			"KERNELS.md): bytes that came over TCP are there and count 0. nginx, JVMs and .NET wait although " +
			"there is data.",
	},
	{
		Name: "fionread-redirected", Effect: Hangs, Hazard: "fionread-redirected", Guard: datapath.GuardFionread,
		Text: "FIONREAD counts TCP's bytes only: redirected bytes are there and count 0.",
	},
	{
		Name: "zerocopy", Effect: Hangs, Hazard: "zerocopy", Guard: datapath.GuardOptions, Then: "zerocopy-refused",
		Text: "MSG_ZEROCOPY copies, and the completion never arrives.",
	},
	{
		Name: "zerocopy-refused", Effect: Harmless, Refusal: true,
		Text: "SO_ZEROCOPY on an accelerated socket is refused, as on a kernel without it, and programs then " +
			"copy.",
	},
	{
		Name: "zerocopy-io_uring", Effect: Harmless, Refusal: true,
		Text: "IORING_OP_SEND_ZC is refused with EOPNOTSUPP, and programs then send with a copy.",
	},
	{
		Name: "zerocopy-receive", Effect: Visible, Guard: datapath.GuardObserve, Then: "zerocopy-receive-refused",
		Text: "TCP_ZEROCOPY_RECEIVE reads TCP's queue only, and reports that there is nothing to map or to " +
			"copy.",
	},
	{
		Name: "zerocopy-receive-refused", Effect: Harmless, Refusal: true,
		Text: "TCP_ZEROCOPY_RECEIVE on an accelerated socket is refused, as on a kernel without it, and " +
			"programs then copy.",
	},
	{
		Name: "wakeup", Effect: Fails, Hazard: "eagain", Guard: datapath.GuardBlocking, Then: "late",
		Text: "A receive call that sleeps on an accelerated socket and is woken by anything but data returns " +
			"EAGAIN, also on a blocking socket: by a signal (even one with SA_RESTART, or SIGSTOP and " +
			"SIGCONT), by another thread that took the data or that writes, by shutdown(2) of the own end, by " +
			"a reset, by the acknowledgement of the own FIN. Programs that poll first do not see it.",
	},
	{
		Name: "inq", Effect: Visible, Guard: datapath.GuardOptions, Then: "inq-refused",
		Text: "With TCP_INQ, no control message has the number of remaining bytes.",
	},
	{
		Name: "inq-refused", Effect: Harmless, Refusal: true,
		Text: "TCP_INQ on an accelerated socket is refused, as on a kernel without it.",
	},
	{
		Name: "broken-pipe", Effect: Fails,
		Text: "When the reader resets the connection while redirected bytes wait for it, the writer gets EPIPE, " +
			"and SIGPIPE if it has not disabled that. TCP returns ECONNRESET first and EPIPE from then on.",
	},
	{
		Name: "peek-offset", Effect: Visible, Guard: datapath.GuardOptions, Then: "peek-offset-refused",
		Text: "SO_PEEK_OFF does not apply to redirected bytes that wait already: MSG_PEEK starts with the first " +
			"byte.",
	},
	{
		Name: "peek-offset-refused", Effect: Harmless, Refusal: true,
		Text: "SO_PEEK_OFF is refused with EOPNOTSUPP while redirected bytes wait, as on a kernel before 6.9.",
	},
	{
		Name: "unread", Effect: Visible, Guard: datapath.GuardObserve,
		Text: "close(2) with unread redirected bytes ends the stream in order instead of resetting it; the " +
			"peer's next send succeeds, and the one after that fails.",
	},
	{
		Name: "unread-poll", Effect: Visible,
		Text: "close(2) with unread redirected bytes: poll reports the end of the stream to the peer (IN, " +
			"RDHUP) and not an error. Where the observers run, its next call returns ECONNRESET, as on TCP.",
	},
	{
		Name: "disconnect-late", Effect: Visible,
		Text: "connect(2) to AF_UNSPEC after the connection has ended by itself (reset, or closed by both " +
			"ends): unread redirected bytes can be read until the socket connects again, where TCP returns " +
			"ENOTCONN. None is ever read on the next connection.",
	},
	{
		Name: "info", Effect: Visible, Guard: datapath.GuardOptions,
		Text: "TCP_INFO counts only bytes that were sent over TCP.",
	},
	{
		Name: "discard", Effect: Visible, Guard: datapath.GuardObserve, Then: "late",
		Text: "MSG_TRUNC does not discard: the bytes are copied, and without a buffer the call fails with EFAULT.",
	},
	{
		Name: "receive-zero", Effect: Harmless, Guard: datapath.GuardObserve,
		Text: "recv of 0 bytes returns 0 if there is nothing to receive, as read(2) does.",
	},
	{
		// With the guard observe most sockets have left the sockhash by then, but not in every run.
		Name: "bad-address", Effect: Harmless,
		Text: "send from an address that is not mapped returns the bytes before it, or 0, without EFAULT.",
	},
	{
		Name: "no-nagle", Effect: Harmless,
		Text: "MSG_MORE, TCP_CORK and Nagle's algorithm hold no bytes back: there are no segments to fill.",
	},
	{
		Name: "fastopen-flag", Effect: Harmless, Guard: datapath.GuardObserve,
		Text: "MSG_FASTOPEN on a connected socket is ignored instead of refused with EISCONN.",
	},
}

// reasonOf finds a reason by name. A test checks that every name in the tables has one.
func reasonOf(name string) (Reason, bool) {
	for _, r := range reasons {
		if r.Name == name {
			return r, true
		}
	}
	return Reason{}, false
}
