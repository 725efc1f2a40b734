// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// answerFor is how long one response is reused.
const answerFor = time.Second

// cachedAnswers gives all clients within a second the same response: writing and compressing the series of a
// thousand pods costs as much as reading them. There are two responses, plain and compressed, both in the
// text format of Prometheus, which every scraper accepts.
type cachedAnswers struct {
	next http.Handler

	busy  chan struct{} // contains an element while a request uses forms
	forms [2]cachedAnswer
}

func cacheAnswers(next http.Handler) *cachedAnswers {
	return &cachedAnswers{next: next, busy: make(chan struct{}, 1)}
}

type cachedAnswer struct {
	until time.Time
	*recordedAnswer
}

// ServeHTTP implements http.Handler.
func (c *cachedAnswers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case c.busy <- struct{}{}:
	case <-r.Context().Done():
		return // the client is gone, and must not wait for a request that hangs
	}
	a := c.answer(r)
	<-c.busy
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes()) // the client may be gone
}

// answer must be called by one goroutine at a time.
func (c *cachedAnswers) answer(r *http.Request) *recordedAnswer {
	form, asked := &c.forms[0], r.Clone(r.Context())
	// No query, because it would apply to the response of all clients.
	asked.Header, asked.URL = http.Header{}, &url.URL{Path: r.URL.Path}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		form = &c.forms[1]
		asked.Header.Set("Accept-Encoding", "gzip")
	}
	if time.Now().Before(form.until) {
		return form.recordedAnswer
	}
	a := &recordedAnswer{header: http.Header{}, code: http.StatusOK}
	begin := time.Now()
	c.next.ServeHTTP(a, asked)
	*form = cachedAnswer{time.Now().Add(max(answerFor, time.Since(begin))), a}
	return a
}

// recordedAnswer is the response of a handler. It does not change once it is cached.
type recordedAnswer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *recordedAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *recordedAnswer) WriteHeader(code int) { a.code = code }

// Write implements http.ResponseWriter.
func (a *recordedAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
