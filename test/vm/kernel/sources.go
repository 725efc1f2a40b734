// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// Sources are the lines of a sources.list for these suites, from the machine's own package sources. Suites
// whose archive the machine does not know are left out.
type Sources struct {
	Lines []string
	hosts []string
}

// SourcesOf asks apt which archives this machine uses, as for the kernels. No archive at all is an error.
func SourcesOf(ctx context.Context, suites ...string) (s Sources, err error) {
	if err := Need("apt-get", keyring); err != nil {
		return s, err
	}
	uris, err := mirrors(ctx)
	if err != nil {
		return s, err
	}
	for _, suite := range suites {
		uri, ok := uris[archiveOf(suite)]
		if !ok {
			continue
		}
		s.Lines = append(s.Lines, fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, uri, suite))
		if u, err := url.Parse(uri); err == nil && u.Host != "" {
			s.hosts = append(s.hosts, u.Host, u.Hostname())
		}
	}
	if len(s.Lines) == 0 {
		return s, fmt.Errorf("find a Debian archive in the package sources: none (set %s=ADDRESS)", MirrorVariable)
	}
	return s, nil
}

// Said returns the output of a program that used these sources, without the names of their hosts.
func (s Sources) Said(text string) string {
	for _, host := range s.hosts {
		text = strings.ReplaceAll(text, host, "MIRROR")
	}
	return strings.TrimSpace(text)
}
