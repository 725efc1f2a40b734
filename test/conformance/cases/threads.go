// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// threads has cases of many threads with one socket.
func threads() []Case {
	return []Case{
		{Name: "threads/two-readers", AlsoBlocking: true, Run: func(t *T) { readers(t, 2) }},
		{Name: "threads/eight-readers", AlsoBlocking: true, Run: func(t *T) { readers(t, 8) }},
		{Name: "threads/readers-share-a-stream", AlsoBlocking: true, Run: func(t *T) { sharedStream(t, 4) }},
		{Name: "threads/readers-share-messages", Blocking: true, Run: func(t *T) { sharedMessages(t, 4) }},
		{Name: "threads/readers-woken-by-the-end", AlsoBlocking: true, Idle: idle, Run: func(t *T) {
			tasks := waitingReaders(t, 4)
			t.C.Shutdown(unix.SHUT_WR)
			t.See("recv", results(tasks))
		}},
		{Name: "threads/eight-writers", Run: func(t *T) { writers(t, 8) }},
		{Name: "threads/large-writers", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			const each = 1 << 20
			var all []*suite.Task[suite.Ret]
			for i := range 4 {
				b := bytes.Repeat([]byte{byte('a' + i)}, each)
				all = append(all, suite.Go(t, func() suite.Ret { return t.C.WriteAll(b) }))
			}
			got, _ := t.S.ReadFull(4 * each)
			// The order of the threads is undefined, but no message may be missing.
			slices.Sort(got)
			t.Stream("received, sorted", got)
			t.See("send", results(all))
		}},
		{Name: "threads/both-ways-on-one-socket", AlsoBlocking: true, Bulk: true,
			Run: func(t *T) { bothWays(t, 2<<20) }},
		{Name: "threads/reader-while-other-writes", AlsoBlocking: true, Run: func(t *T) {
			// The writer's progress wakes all threads that sleep on the socket.
			r := suite.Go(t, func() suite.Ret { return t.C.Recv(16, 0) })
			t.See("returned early", r.Done())
			sent := pattern(8<<20, 52)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Receive("received", t.S, len(sent))
			t.See("send", w.Wait())
			t.See("reader still waits", !r.Done())
			t.S.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
	}
}

func waitingReaders(t *T, n int) (tasks []*suite.Task[suite.Ret]) {
	for range n {
		tasks = append(tasks, suite.Go(t, func() suite.Ret { return t.S.Recv(5, 0) }))
	}
	t.Pause()
	t.Pause()
	return tasks
}

// results waits for all tasks and returns their results as text, sorted.
func results(tasks []*suite.Task[suite.Ret]) string {
	var all []string
	for _, task := range tasks {
		all = append(all, task.Wait().String())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// readers has n threads that wait in recv(2), and one message for each.
func readers(t *T, n int) {
	tasks := waitingReaders(t, n)
	for range n {
		t.C.Send("hello", 0)
		t.Pause()
	}
	t.See("recv", results(tasks))
	var left []byte
	for {
		r := t.S.Recv(64, dontwait)
		if r.N <= 0 {
			break
		}
		left = append(left, r.Data...)
	}
	t.See("left over", suite.Text(left))
}

// sharedStream has n threads that read one stream to its end. Any thread may get any bytes.
func sharedStream(t *T, n int) {
	sent := pattern(200_000, 53)
	var mu sync.Mutex
	var got []byte
	var tasks []*suite.Task[suite.Ret]
	for range n {
		tasks = append(tasks, suite.Go(t, func() suite.Ret {
			for {
				r := t.S.Recv(1000, 0)
				if r.N <= 0 {
					return r
				}
				mu.Lock()
				got = append(got, r.Data...)
				mu.Unlock()
			}
		}))
	}
	t.See("send", writeMixed(t, t.C, sent))
	t.C.Shutdown(unix.SHUT_WR)
	t.See("ends", results(tasks))
	for rest := t.S.Recv(1000, dontwait); rest.N > 0; rest = t.S.Recv(1000, dontwait) {
		got = append(got, rest.Data...) // no thread was left to read it
	}
	slices.Sort(got)
	t.Stream("received, sorted", got)
}

// sharedMessages has n threads that read whole messages of one stream. A thread that gets an error other than
// the end of the stream continues, and records it.
func sharedMessages(t *T, n int) {
	const messages = 2000
	var mu sync.Mutex
	count := map[string]int{}
	odd := map[string]bool{}
	var tasks []*suite.Task[suite.Ret]
	for range n {
		tasks = append(tasks, suite.Go(t, func() suite.Ret {
			for t.Context.Err() == nil {
				r := t.S.Recv(8, waitall)
				mu.Lock()
				if r.N == 8 {
					count[string(r.Data)]++
				} else if r.N != 0 {
					odd[r.String()] = true
				}
				mu.Unlock()
				if r.N == 0 || r.Blocked() {
					return r
				}
			}
			return suite.Ret{}
		}))
	}
	for i := range messages {
		t.C.Send(fmt.Sprintf("%08d", i), 0)
	}
	t.C.Shutdown(unix.SHUT_WR)
	t.See("ends", results(tasks))
	t.See("other results", slices.Sorted(mapKeys(odd)))
	t.Stream("messages", []byte(fmt.Sprintf("%d of %d", len(count), messages)))
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// writers has n threads that send messages. A message may be split where the socket's buffer is full, so only
// the bytes are compared.
func writers(t *T, n int) {
	const each, size = 100, 100
	var tasks []*suite.Task[suite.Ret]
	for i := range n {
		message := bytes.Repeat([]byte{byte('a' + i)}, size)
		tasks = append(tasks, suite.Go(t, func() (r suite.Ret) {
			for range each {
				if r = t.C.WriteAll(message); r.N != size {
					return r
				}
			}
			return r
		}))
	}
	got, _ := t.S.ReadFull(n * each * size)
	slices.Sort(got)
	t.Stream("received, sorted", got)
	t.See("send", results(tasks))
}
