// SPDX-License-Identifier: Apache-2.0

// Package suite runs conformance cases: the socket API as an application sees
// it, on plain TCP and accelerated.
//
// A [Case] records observations, an ordered list of named values, and judges
// nothing. [Runner] runs it once on a plain place and once on an accelerated one
// and compares the lists; what differs is the report. How much was redirected
// meanwhile is part of it, since a case that never engaged the redirect says
// nothing.
//
// Values must not depend on time: a call that waited as long as it was allowed to
// is recorded as "blocks", whatever that was. Every call is bounded, by the
// timeout of poll(2) or by those of its socket, and every case by a watchdog that
// shuts its sockets down.
package suite
