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

// answerFor is how long one answer is given to all who ask.
const answerFor = time.Second

// cachedAnswers lets all who ask within a second have one answer: to write out the series of a thousand pods, and to
// compress them, costs as much as to read them. There are two forms of it, plain and compressed, both in the text format
// of Prometheus, which every scraper takes.
type cachedAnswers struct {
	next http.Handler

	busy  chan struct{} // holds an element while somebody uses forms
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
		return // the client is gone; it must not wait for what hangs
	}
	a := c.answer(r)
	<-c.busy
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes()) // a client that is gone
}

// answer is called by one at a time.
func (c *cachedAnswers) answer(r *http.Request) *recordedAnswer {
	form, asked := &c.forms[0], r.Clone(r.Context())
	asked.Header, asked.URL = http.Header{}, &url.URL{Path: r.URL.Path} // a query would be answered for everybody
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

// recordedAnswer is what a handler writes. It does not change any more once it is given to others.
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
