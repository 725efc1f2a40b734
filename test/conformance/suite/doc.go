// SPDX-License-Identifier: Apache-2.0

// Package suite runs conformance cases: calls of the socket API by an application, on plain TCP and
// accelerated.
//
// A [Case] records observations, an ordered list of named values, and does not judge them. [Runner] runs it
// once on a plain place and once on an accelerated one and compares the lists. The report has the differences
// and the number of redirected bytes, because a case without redirected bytes shows nothing.
//
// Values must not depend on time: a call that waited for as long as it was allowed to is recorded as
// "blocks", whatever the time was. Every call is bounded, by the timeout of poll(2) or by those of its
// socket, and every case by a watchdog that shuts its sockets down.
package suite
