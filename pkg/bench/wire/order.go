// SPDX-License-Identifier: Apache-2.0

// Package wire defines a request and a stream for every tool of this project: `sockmapctl bench`, `make demo`
// and the micro benchmarks. Each process runs one end, with the same code for every type of socket.
//
// A request is one write; the other end polls, reads all of it and writes as many bytes back. TCP_NODELAY is
// set. A stream is a series of writes of one size; its rate counts the bytes that the reader read after the
// warm-up, in reads of up to 256 KiB. The content is neither generated nor checked. Both run for a time, not
// for a number of messages. The package ratio defines ratios.
//
// The subject of a measurement is the kernel, so the program does as little as possible:
//
//   - One thread does everything, with raw system calls: Go's scheduler does not see that the thread waits,
//     so it hands nothing to other threads. In return, nothing else of the process can run meanwhile, and
//     nothing has to: there is one goroutine, the garbage collector is off, as are preemption signals (see
//     Agent).
//   - Sockets are non-blocking, and the program waits with poll or epoll, as servers do. Programs that wait
//     inside receive calls are a different case: where guards run, sockmap keeps them on TCP.
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
	Kind   Kind `json:"kind"`
	Listen bool `json:"listen,omitempty"`
	// Addr is an IPv4 address and a port, port 0 for any; or @name, a Unix socket without a file.
	Addr string `json:"addr"`
	// Via is the address that the client connects to, if it is not Addr: a service address.
	Via   string        `json:"via,omitempty"`
	CPU   int           `json:"cpu"`
	Size  int           `json:"size"`            // of a request and of its answer, or of a write
	Conns int           `json:"conns,omitempty"` // connections of Many and Idle
	Warm  time.Duration `json:"warm,omitempty"`  // before what is measured
	Time  time.Duration `json:"time,omitempty"`  // that is measured
	Take  int           `json:"take,omitempty"`  // bytes in one read of the answering end; 0: no limit
	Pause time.Duration `json:"pause,omitempty"` // of a stream's reader, after each read
	// Spin is the time that a listening end computes before each answer and after each read.
	Spin time.Duration `json:"spin,omitempty"`
	Kept bool          `json:"kept,omitempty"` // see Kept in the command's documentation
	// Congestion control of TCP; empty: the kernel's default, which may be one that paces what it sends.
	Congestion string `json:"congestion,omitempty"`
	Busy       bool   `json:"busy,omitempty"` // ask for the machine's CPU time, too
}

// Answer is the result of an end. A listening end sends one with Addr first, and one more at the end.
type Answer struct {
	Addr string `json:"addr,omitempty"`
	// Count is the number of requests, connections, or bytes of a stream that were measured.
	Count   uint64        `json:"count,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"` // for all of them
	P50     time.Duration `json:"p50,omitempty"`     // of a request and its answer
	P99     time.Duration `json:"p99,omitempty"`
	P999    time.Duration `json:"p999,omitempty"`
	Busy    time.Duration `json:"busy,omitempty"` // of all CPUs of the machine, in the time measured
	Sent    uint64        `json:"sent,omitempty"` // bytes by this end, all of them
	Got     uint64        `json:"got,omitempty"`
	// TCP is the number of bytes of Sent that used TCP, as TCP_INFO reports them; not for Churn.
	TCP   uint64 `json:"tcp,omitempty"`
	Error string `json:"error,omitempty"`
}

// Rate is the count per second.
func (a Answer) Rate() float64 {
	if a.Elapsed <= 0 {
		return 0
	}
	return float64(a.Count) / a.Elapsed.Seconds()
}
