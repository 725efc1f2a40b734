// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Capabilities that a conflist entry asks the runtime for. Each is also the key below runtimeConfig.
const (
	CapabilityCgroupPath     = "cgroupPath"
	CapabilityPodAnnotations = "io.kubernetes.cri.pod-annotations"
)

// Annotations of a pod that the plugin reads.
const (
	AnnotationAccelerate    = "sockmap-cni/accelerate"     // "true" or "false": overrides enabled
	AnnotationAcceptHazards = "sockmap-cni/accept-hazards" // hazards of hazard.ScopePod or "all", by commas

	annotationPrefix = "sockmap-cni/"
)

// Accelerate says whether this container is to be accelerated, and where that was said, in words for the log.
func (c *Conf) Accelerate() (on bool, source string) {
	switch c.Annotations[AnnotationAccelerate] {
	case "true":
		return true, "annotation " + AnnotationAccelerate
	case "false":
		return false, "annotation " + AnnotationAccelerate
	}
	return c.Enabled, "configuration"
}

// ForPod is the configuration of one container as its runtime would have passed it: c without what it was
// passed for another, and with these annotations and runtimeConfig.cgroupPath, which may be empty. c itself
// does not change.
func (c *Conf) ForPod(annotations map[string]string, cgroupPath string) *Conf {
	own := *c
	own.Annotations, own.RuntimeCgroupPath = maps.Clone(annotations), cgroupPath
	own.Warnings = nil
	own.checkAnnotations()
	return &own
}

// capabilities are read by the runtime. It silently ignores one that it does not know, so a typing error in
// one of ours would go unnoticed: warn about near misses.
func (v value) capabilities() {
	asked, _ := members(v.raw)
	ours := []string{CapabilityCgroupPath, CapabilityPodAnnotations}
	for _, m := range asked {
		if near := Nearest(m.Name, ours); near != "" && near != m.Name {
			v.conf.warn("capability %s is unknown (did you mean %q?)", quoted(m.Name), near)
		}
	}
}

// runtimeConfig comes from the runtime, and its annotations from the pod's author: nothing in it may keep a
// pod from starting.
func (v value) runtimeConfig() {
	found, ok := members(v.raw)
	if !ok {
		v.conf.warn("runtimeConfig is ignored: %s is not an object", shown(v.raw))
		return
	}
	for _, m := range found {
		switch {
		case isNull(m.Raw):
		case m.Name == CapabilityCgroupPath:
			path, ok := str(m.Raw)
			if !ok {
				v.conf.warn("runtimeConfig.cgroupPath is ignored: %s is not a string", shown(m.Raw))
			}
			v.conf.RuntimeCgroupPath = path
		case m.Name == CapabilityPodAnnotations:
			v.conf.Annotations = v.annotations(m.Raw)
		}
	}
}

// annotations drops single values that are no strings, so that a runtime's mistake in one costs only that
// one.
func (v value) annotations(raw json.RawMessage) map[string]string {
	found, ok := members(raw)
	if !ok {
		v.conf.warn("pod annotations are ignored: %s is not an object", shown(raw))
		return nil
	}
	annotations := make(map[string]string, len(found))
	for _, m := range found {
		s, ok := str(m.Raw)
		if !ok {
			v.conf.warn("annotation %s is ignored: %s is not a string", quoted(m.Name), shown(m.Raw))
			continue
		}
		annotations[m.Name] = s
	}
	return annotations
}

// checkAnnotations warns about what Accelerate and HazardsAccepted pass over.
func (c *Conf) checkAnnotations() {
	ours := []string{AnnotationAccelerate, AnnotationAcceptHazards}
	// Sorted, so that the same pod always gives the same log.
	for _, name := range slices.Sorted(maps.Keys(c.Annotations)) {
		if strings.HasPrefix(name, annotationPrefix) {
			c.warnUnknown("annotation", "", name, ours, ours)
		}
	}
	if s, ok := c.Annotations[AnnotationAccelerate]; ok && s != "true" && s != "false" {
		c.warn("annotation %s is ignored: %s is not one of true, false", AnnotationAccelerate, quoted(s))
	}
	c.checkAcceptHazards()
}

// splitList splits at commas and drops spaces and empty parts.
func splitList(s string) []string {
	var parts []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
