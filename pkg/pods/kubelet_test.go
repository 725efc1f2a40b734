// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// kubelet is a fake one: it uses a self-signed certificate, and returns pods only to clients with the token.
func kubelet(t *testing.T, body string, code int) *Kubelet {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := NewKubelet(server.Listener.Addr().String(), token)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCurrentAnnotationsComeFromTheKubelet(t *testing.T) {
	const list = `{"kind":"PodList","items":[
		{"metadata":{"name":"web","uid":"u1","annotations":{"sockmap-cni/accelerate":"false"}}},
		{"metadata":{"name":"db","uid":"u2"}}]}`
	now, err := kubelet(t, list, http.StatusOK).Annotations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := []Pod{
		{ID: "a", UID: "u1", Annotations: map[string]string{"sockmap-cni/accelerate": "true"}},
		{ID: "b", UID: "u2", Annotations: map[string]string{"gone": "by now"}},
		{ID: "c", UID: "u3", Annotations: map[string]string{"old": "1"}},
	}
	annotate(all, now)
	want := []Pod{
		{ID: "a", UID: "u1", Annotations: map[string]string{"sockmap-cni/accelerate": "false"}},
		{ID: "b", UID: "u2", Annotations: map[string]string{}},
		{ID: "c", UID: "u3", Annotations: map[string]string{"old": "1"}, Unsure: true},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	annotate(all, nil) // it does not answer any more
	for _, p := range all {
		if !p.Unsure {
			t.Errorf("without an answer %+v is sure", p)
		}
	}
}

func TestErrorsOfTheKubeletNameTheirCause(t *testing.T) {
	for body, want := range map[string]string{"{": "read the kubelet's reply",
		`{"items":[{"metadata":{}}]}`: "without UID"} {
		if _, err := kubelet(t, body, http.StatusOK).Annotations(t.Context()); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, err := kubelet(t, "", http.StatusForbidden).Annotations(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "nodes/pods") {
		t.Errorf("forbidden: %v", err)
	}
	k := kubelet(t, "", http.StatusOK)
	k.tokenFile = filepath.Join(t.TempDir(), "none")
	if _, err := k.Annotations(t.Context()); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kubelet(t, "", http.StatusOK).Annotations(ctx); err == nil {
		t.Error("no error after the end of its context")
	}
	for _, address := range []string{"192.0.2.1:10250", "node:10250", "127.0.0.1"} {
		if _, err := NewKubelet(address, "token"); err == nil {
			t.Errorf("%s is accepted", address)
		}
	}
}
