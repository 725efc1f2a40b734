// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push copies the image of bin/release to a registry, with the version as its tag, for all architectures. The
// credentials are those that docker login, podman login and their like have stored.
func (r *release) push(ctx context.Context, repository string) error {
	if repository == "" {
		return errors.New("where to push the image is not set (IMAGE=REGISTRY/NAME)")
	}
	to, err := name.NewTag(repository + ":" + r.version)
	if err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(r.name("-oci"))
	if err != nil {
		return fmt.Errorf("%w (make release comes before)", err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	if len(m.Manifests) != 1 {
		return fmt.Errorf("%s has %d images, want one", r.name("-oci"), len(m.Manifests))
	}
	image, err := index.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(to, image, remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithContext(ctx)); err != nil {
		return err
	}
	fmt.Printf("pushed %s@%s\n", to, m.Manifests[0].Digest)
	return nil
}
