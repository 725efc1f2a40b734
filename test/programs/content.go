// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// bodyBytes is the length of the body: more than a segment, less than the initial window of a connection.
const bodyBytes = 40_000

// body is one line of hexadecimal digits without a line feed: every protocol carries it unchanged.
func body() []byte {
	half := make([]byte, bodyBytes/2)
	rand.NewChaCha8([32]byte{7}).Read(half)
	return []byte(hex.EncodeToString(half))
}

// checkHashes expects the hash of the body, as sha256sum prints it, once per request, and nothing else.
func checkHashes(out string, times int) error {
	sum := sha256.Sum256(body())
	want := hex.EncodeToString(sum[:])
	n := 0
	for line := range strings.Lines(out) {
		got, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if got != want {
			return fmt.Errorf("body %d of %d is another one: %q, want the hash %s", n+1, times, tail(line, 200), want)
		}
		n++
	}
	if n != times {
		return fmt.Errorf("got %d bodies, want %d", n, times)
	}
	return nil
}

func tail(text string, n int) string {
	return strings.TrimSpace(text[max(0, len(text)-n):])
}

// syncBuffer is written by a process and read meanwhile.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
