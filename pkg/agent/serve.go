// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sockmap-cni/sockmap-cni/pkg/metrics"
)

// closeTime bounds how long requests may take once the agent ends.
const closeTime = 3 * time.Second

// serve serves HTTP until ctx ends. If the address is in use, by the agent that this one replaces, it tries
// again.
func (a *Agent) serve(ctx context.Context) {
	if a.Listen == "" {
		return
	}
	retry := backoff{first: time.Second, most: time.Minute}
	for ctx.Err() == nil {
		err := a.serveOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log().Error("metrics, /healthz and /readyz are not served", "listen", a.Listen, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retry.next()):
		}
	}
}

func (a *Agent) serveOnce(ctx context.Context) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", a.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		closed <- server.Shutdown(closing)
	})
	if a.Serving != nil {
		a.Serving(l.Addr().String())
	}
	err = server.Serve(newBoundedListener(l, maxPerAddress, maxConnections))
	if !stop() { // ctx has ended: Serve returns before the last responses are written
		err = <-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (a *Agent) handler() http.Handler {
	registry := prometheus.NewRegistry()
	if a.Metrics != nil {
		registry.MustRegister(a.Metrics)
	}
	registry.MustRegister(collector{a})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cacheAnswers(promhttp.HandlerFor(metrics.Shared(registry), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
	})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		err := a.health.healthy()
		answer(w, err, message(err))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		list := a.partStatuses()
		err := ready(list)
		text := message(err)
		if r.URL.Query().Has("verbose") {
			text = verboseText(list)
		}
		answer(w, err, text)
	})
	return mux
}

// message is "ok", or the text of the error.
func message(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func answer(w http.ResponseWriter, err error, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, text)
}
