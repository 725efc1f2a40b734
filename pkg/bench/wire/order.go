// SPDX-License-Identifier: Apache-2.0

// Package wire is what every tool of this project means by a request and by a stream: `sockmapctl bench`,
// `make demo` and the micro benchmarks. Processes play one end each, with the same code whatever the socket.
//
// A request is written at once, the other end polls, reads it whole and writes as many bytes back;
// TCP_NODELAY is set. A stream is writes of one size for a time; its rate is what the reader got after the
// warm-up, in reads of up to 256 KiB. Nothing makes content or looks at it. Both run for a time, not for a
// number. What a ratio is made of is in the package ratio.
//
// What is to be seen is what the kernel does, so the program around it stays out of the way:
//
//   - One thread does everything, and system calls are made raw: Go's scheduler never learns that the thread waits, so it hands
//     nothing over and has nothing to take back. The price is that nothing else of the process can run meanwhile, and nothing
//     has to: there is one goroutine, the garbage collector is off, and so are preemption signals (see Agent).
//   - Sockets are non-blocking and waited for with poll or epoll, as servers do it. Programs that wait inside receive calls
//     are another thing: where guards run, sockmap leaves them to TCP.
//   - The traffic's thread runs on one CPU, and the runtime's own threads on CPU 0.
package wire

import "time"

// Kind of traffic.
type Kind string

// The kinds. The end that listens answers requests or reads a stream, the other one begins and says when it
// ends.
const (
	Requests Kind = "requests" // on one connection, one after the other
	Stream   Kind = "stream"   // one way
	Many     Kind = "many"     // on many connections, one outstanding on each, epoll at both ends
	Idle     Kind = "idle"     // one request on each of many connections, which then stay open until Close
	Churn    Kind = "churn"    // a connection for each request
)

// Order is what an end is to do.
type Order struct {
	Kind   Kind          `json:"kind"`
	Listen bool          `json:"listen,omitempty"`
	Addr   string        `json:"addr"`          // IPv4 address and port, port 0 for any; or @name, a Unix socket without a file
	Via    string        `json:"via,omitempty"` // what the client connects to, where it is not Addr: a service address
	CPU    int           `json:"cpu"`
	Size   int           `json:"size"`            // of a request and of its answer, or of a write
	Conns  int           `json:"conns,omitempty"` // connections of Many and Idle
	Warm   time.Duration `json:"warm,omitempty"`  // before what is measured
	Time   time.Duration `json:"time,omitempty"`  // that is measured
	Take   int           `json:"take,omitempty"`  // of who answers requests, at most in one read; 0: all of it
	Pause  time.Duration `json:"pause,omitempty"` // of a stream's reader, after each read
	Spin   time.Duration `json:"spin,omitempty"`  // of who listens, before each answer and after each read: a loop
	Kept   bool          `json:"kept,omitempty"`  // see Kept in the command's documentation
	// Congestion control of TCP; empty: the kernel's default, which may be one that paces what it sends.
	Congestion string `json:"congestion,omitempty"`
	Busy       bool   `json:"busy,omitempty"` // ask for the machine's CPU time, too
}

// Answer is the result of an end. A listening end sends one with Addr first, and one more at the end.
type Answer struct {
	Addr    string        `json:"addr,omitempty"`
	Count   uint64        `json:"count,omitempty"`   // requests, connections, or bytes of a stream, that were measured
	Elapsed time.Duration `json:"elapsed,omitempty"` // for all of them
	P50     time.Duration `json:"p50,omitempty"`     // of a request and its answer
	P99     time.Duration `json:"p99,omitempty"`
	P999    time.Duration `json:"p999,omitempty"`
	Busy    time.Duration `json:"busy,omitempty"` // of all CPUs of the machine, in the time measured
	Sent    uint64        `json:"sent,omitempty"` // bytes by this end, all of them
	Got     uint64        `json:"got,omitempty"`
	TCP     uint64        `json:"tcp,omitempty"` // bytes of Sent that went by TCP, as TCP itself tells: not of Churn
	Error   string        `json:"error,omitempty"`
}

// Rate is the count per second.
func (a Answer) Rate() float64 {
	if a.Elapsed <= 0 {
		return 0
	}
	return float64(a.Count) / a.Elapsed.Seconds()
}
