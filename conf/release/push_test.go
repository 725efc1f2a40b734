// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// checkPush sends the image to a registry on this machine and gets it back.
func checkPush(t *testing.T, out string) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	r := &release{out: out, version: tested}
	repository := strings.TrimPrefix(server.URL, "http://") + "/test/sockmap-cni"
	if err := r.push(t.Context(), repository); err != nil {
		t.Fatal(err)
	}
	pushed, err := name.ParseReference(repository + ":" + tested)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Index(pushed)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(image); err != nil {
		t.Error(err)
	}
	m, err := image.IndexManifest()
	if err != nil || len(m.Manifests) != len(architectures) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestPushNamesWhatIsMissing(t *testing.T) {
	r := &release{out: filepath.Join(t.TempDir(), "release"), version: tested}
	for repository, want := range map[string]string{
		"":                        "IMAGE=REGISTRY/NAME",
		"localhost:1/Not Valid":   "repository",
		"localhost:1/sockmap-cni": "make release comes before",
	} {
		if err := r.push(t.Context(), repository); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", repository, err, want)
		}
	}
}
