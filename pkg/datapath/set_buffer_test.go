// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"testing"
	"time"
)

// A reader that has set SO_RCVBUF and reads nothing: redirected bytes leave TCP its half of the buffer.
// Otherwise the kernel drops what comes by TCP, and the sender's timer doubles for as long as the reader
// rests: it then waits as long again.
func TestReaderWithASetBufferLosesNoSegments(t *testing.T) {
	for _, size := range []int{512, 1 << 10} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			d, g := load(t, bounded(1024, 1<<20, 4096)), newGroup(t)
			g.attach(t, d)
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			if err := server.SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			send(t, client, server, 64<<10, 1) // it has shown that it reads
			taken := fill(t, client, size, 64<<20)
			f, _ := flowOf(t, d, client)
			if f.Mode != ModeTCP || f.Reason != Reason(bpfReasonREASON_BACKLOG_BYTES) || f.RedirectedBytes == 0 {
				t.Errorf("want TCP because of backlog-bytes after redirected bytes, got %+v", f)
			}
			time.Sleep(2 * time.Second) // several of the sender's timeouts, if it has any
			if n := tcpInfo(t, client).Total_retrans; n != 0 {
				t.Errorf("%d segments were sent again", n)
			}
			receive(t, server, taken)
		})
	}
}
