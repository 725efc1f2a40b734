// SPDX-License-Identifier: Apache-2.0

// Package cases is the list of conformance cases, by family: what an application does with TCP sockets, and
// the results that it sees. Cases record results and do not judge them. The names of observations describe
// the calls.
package cases

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// Short names for what every case uses of other packages.
type (
	// T is a run of a case.
	T = suite.T
	// Case is one behaviour.
	Case = suite.Case
	// Sock is one end of a connection.
	Sock = suite.Sock
)

const (
	dontwait = unix.MSG_DONTWAIT
	peek     = unix.MSG_PEEK
	waitall  = unix.MSG_WAITALL
	trunc    = unix.MSG_TRUNC
	oob      = unix.MSG_OOB
	more     = unix.MSG_MORE
)

// Kernel lists the cases that need only a kernel, and no other programs.
func Kernel() []Case {
	return suite.Expand(slices.Concat(
		receiving(), receivingMany(), peeking(), peekingOddly(), truncating(), waitingForAll(), waitingForMore(),
		timeouts(),
		watermarks(),
		urgent(), errorQueue(), counting(), countingMore(),
		sending(), sendingOddly(), holding(), stopping(), zeroCopy(),
		eventLoops(), polling(), pollingErrors(), edges(), twoQueues(), manyWaiters(), selecting(),
		splicing(), splicingOtherwise(), splicingOut(), sendingFiles(),
		rings(), ringEnds(), ringReceive(),
		halfClosing(), shuttingDown(), closing(), closingUnder(), resetting(), erring(),
		afterwards(), disconnecting(), beforeEstablished(),
		options(), optionsOfTCP(), optionsInUse(), controlMessages(), information(), filters(),
		handshakes(), accepting(), fastOpen(), multipath(), records(),
		threads(), passing(), inheriting(), passingOn(), processes(), signals(),
		traffic(), streams(), gos(), goStreams(),
	))
}
