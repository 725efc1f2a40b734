// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// slowly is a source of metrics that is slow and finds nothing.
type slowly struct {
	takes time.Duration
	asked atomic.Int64
}

func (s *slowly) open() (metrics.Source, error) {
	s.asked.Add(1)
	fixture.Elapse(s.takes, "a source that takes long")
	return nil, datapath.ErrNotLoaded
}

// found is a line that is always in the metrics.
const found = "sockmap_build_info{version=\"v\"} 1\n"

// serveAlone is the HTTP server of an agent that does nothing else.
func serveAlone(t *testing.T, s *slowly) (address string) {
	t.Helper()
	a := &Agent{Listen: "127.0.0.1:0", Metrics: &metrics.Collector{Version: "v", Open: s.open}}
	a.health.init(time.Minute)
	serving, ended := make(chan string, 1), make(chan struct{})
	a.Serving = func(address string) { serving <- address }
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		a.serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return <-serving
}

// from is a client with an address of its own.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext,
		DisableKeepAlives: true}}
}

func fetch(c *http.Client, url string) (int, string, error) {
	response, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func TestConstantScrapersDoNotStarveOthers(t *testing.T) {
	s := &slowly{takes: 300 * time.Millisecond}
	url := "http://" + serveAlone(t, s) + "/metrics"
	const loops = 8
	stop, ended := make(chan struct{}), make(chan struct{})
	var answers atomic.Int64
	for range loops {
		go func() {
			defer func() { ended <- struct{}{} }()
			client := from("127.0.0.1")
			for {
				select {
				case <-stop:
					return
				default:
				}
				if code, _, err := fetch(client, url); err == nil && code == http.StatusOK {
					answers.Add(1)
				}
			}
		}()
	}
	begin := time.Now()
	for range 20 {
		code, text, err := fetch(from("127.0.0.2"), url)
		if err != nil || code != http.StatusOK || !strings.Contains(text, found) {
			t.Errorf("a scraper got %d, %q, %v", code, text, err)
		}
		fixture.Elapse(100*time.Millisecond, "the pace of a scraper")
	}
	took := time.Since(begin)
	close(stop)
	for range loops {
		<-ended
	}
	// Both forms of the response are made from the same snapshot.
	if most := int64(took/answerFor) + 2; s.asked.Load() > most || answers.Load() < 100 {
		t.Errorf("in %v %d snapshots for %d answers, want %d at most", took, s.asked.Load(), answers.Load(), most)
	}
}

func TestMetricsResponseHonoursTheAcceptHeaders(t *testing.T) {
	address := serveAlone(t, &slowly{})
	for _, encoding := range []string{"", "gzip", "gzip", ""} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", encoding) // set by the test, so the client does not decompress
		request.Header.Set("Accept",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.Header.Get("Content-Encoding") != encoding ||
			!strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%q: %v, %v", encoding, response.Header, err)
		}
		if plain := strings.Contains(string(text), found); plain != (encoding == "") {
			t.Errorf("%q: %q", encoding, text)
		}
	}
}

func TestErrorResponseIsCachedForASecond(t *testing.T) {
	made := 0
	c := cacheAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		made++
		http.Error(w, "broken", http.StatusInternalServerError)
	}))
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w
	}
	ask()
	if w := ask(); made != 1 || w.Code != http.StatusInternalServerError || w.Body.String() != "broken\n" {
		t.Errorf("made %d times: %d, %q", made, w.Code, w.Body)
	}
	c.forms[0].until = time.Now()
	if ask(); made != 2 {
		t.Errorf("a second later it was made %d times", made)
	}
}

// held are open connections of a client, for counting how many of them the server has closed.
type held []net.Conn

func hold(t *testing.T, from, to string, n int) (all held) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	for range n {
		c, err := dialer.DialContext(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all = append(all, c)
	}
	return all
}

func (all held) ended(within time.Duration) (n int) {
	deadline := time.Now().Add(within)
	for _, c := range all {
		_ = c.SetReadDeadline(deadline)
		if _, err := c.Read(make([]byte, 1)); err == io.EOF || err != nil &&
			strings.Contains(err.Error(), "reset") {
			n++
		}
	}
	return n
}

// A client that opens connections and sends nothing does not shut out other clients, not even those at the
// same address.
func TestConnectionsAreBounded(t *testing.T) {
	address := serveAlone(t, &slowly{})
	const opened = 3 * maxPerAddress
	idle := hold(t, "127.0.0.1", address, opened)
	// Before the server closes them after five idle seconds.
	begin := time.Now()
	if n := idle[:opened-maxPerAddress].ended(time.Second); n != opened-maxPerAddress ||
		time.Since(begin) > 4*time.Second {
		t.Errorf("%d of the oldest %d connections were ended, in %v", n, opened-maxPerAddress, time.Since(begin))
	}
	for _, who := range []string{"127.0.0.1", "127.0.0.2"} {
		if code, _, err := fetch(from(who), "http://"+address+"/healthz"); err != nil || code != http.StatusOK {
			t.Errorf("from %s: %d, %v", who, code, err)
		}
	}
}

func TestOldestConnectionIsClosedFirst(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	l := newBoundedListener(inner, 3, 4)
	accepted := func(from string) net.Conn {
		t.Helper()
		client := hold(t, from, inner.Addr().String(), 1)[0]
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		return client
	}
	one, two, three := accepted("127.0.0.1"), accepted("127.0.0.2"), accepted("127.0.0.2")
	four := accepted("127.0.0.2")
	accepted("127.0.0.2") // the fourth of its address
	accepted("127.0.0.3") // the fifth of all
	gone, there := held{two, one}, held{three, four}
	if n := gone.ended(patience); n != 2 {
		t.Errorf("%d of the 2 oldest were ended", n)
	}
	if n := there.ended(50 * time.Millisecond); n != 0 {
		t.Errorf("%d others were ended", n)
	}
	if n := len(l.open); n != 4 {
		t.Errorf("%d are counted", n)
	}
}
