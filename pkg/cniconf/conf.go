// SPDX-License-Identifier: Apache-2.0

// Package cniconf reads what a container runtime hands to the plugin: the configuration on standard input
// and CNI_ARGS. It is pure: it reads no file, no environment and no clock, so that its
// results depend on its input only.
//
// The configuration has two sources, which are treated differently. The operator's conflist is checked, and
// all wrong values are reported together. Additions of the runtime or of a pod's author (capabilities,
// annotations, CNI_ARGS) never fail a pod: wrong ones are dropped with a warning.
package cniconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/jsonobject"
)

// Attachment is one container and interface that the runtime still knows.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Parse reads a configuration and checks every value. The error is a *SyntaxError, or joins one *FieldError
// per wrong value; the Conf is nil then.
func Parse(stdin []byte) (*Conf, error) {
	p, err := parse(stdin)
	if err != nil {
		return nil, err
	}
	if len(p.wrong) > 0 {
		return nil, errors.Join(p.wrong...)
	}
	return p.conf, nil
}

// ParseLenient reads a configuration for the verbs that must work with any configuration: a container whose
// DEL fails because of a typing error cannot be removed. A wrong value becomes a warning and its key keeps
// the default. The Conf is never nil; the error is nil or a *SyntaxError, and the Conf holds only defaults
// then.
func ParseLenient(stdin []byte) (*Conf, error) {
	p, err := parse(stdin)
	if err != nil {
		return defaults(), err
	}
	for _, wrong := range p.wrong {
		p.conf.warn("ignored: %v", wrong)
	}
	return p.conf, nil
}

// parser collects wrong values while it fills in a Conf, so that one run reports all of them.
type parser struct {
	conf  *Conf
	wrong []error
}

func parse(stdin []byte) (*parser, error) {
	found, err := document(stdin)
	if err != nil {
		return nil, err
	}
	p := &parser{conf: defaults()}
	values := make(map[string]json.RawMessage, len(found))
	for _, m := range found {
		if _, again := values[m.Name]; again {
			p.conf.warn("key %s is given more than once, the last one counts", quoted(m.Name))
		}
		values[m.Name] = m.Raw
	}
	for _, k := range append(protocolKeys(), keys()...) {
		raw, present := values[k.name]
		// Templates write null for values that are not set.
		if present && !isNull(raw) {
			k.set(value{parser: p, key: k.name, allowed: k.allowed, raw: raw})
		}
	}
	p.attachments(values)
	p.unknown(found)
	p.conf.checkAnnotations()
	return p, nil
}

// unknown warns about keys that are not read. They are no error: a conflist for a newer version must not stop
// pods on a node that has an older one.
func (p *parser) unknown(found []jsonobject.Member) {
	var known, own []string
	for _, k := range protocolKeys() {
		known = append(known, k.name)
	}
	for _, k := range keys() {
		own = append(own, k.name)
	}
	known = append(known, own...)
	known = append(known, "ipam", "dns", "args")
	for _, m := range found {
		if !strings.HasPrefix(m.Name, "cni.dev/") {
			p.conf.warnUnknown("key", "", m.Name, known, own)
		}
	}
}

// maxWarnings keeps a pod that carries thousands of malformed annotations from flooding the node's log.
const maxWarnings = 64

func (c *Conf) warn(format string, args ...any) {
	c.Warnings = appendWarning(c.Warnings, format, args...)
}

func appendWarning(warnings []string, format string, args ...any) []string {
	switch {
	case len(warnings) < maxWarnings:
		return append(warnings, fmt.Sprintf(format, args...))
	case len(warnings) == maxWarnings:
		return append(warnings, "further warnings are left out")
	}
	return warnings
}
