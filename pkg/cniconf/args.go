// SPDX-License-Identifier: Apache-2.0

package cniconf

import "strings"

// Identity is the pod's identity by CNI_ARGS. A field is "" if the runtime passed nothing, or something that
// cannot be a name. None of it is proof: a runtime may pass a container's name as the pod's.
type Identity struct {
	PodNamespace, PodName, PodUID, InfraContainerID string
}

// Longest accepted values in bytes: Kubernetes' own limits; the IDs of all runtimes fit.
const (
	MaxPodNamespace     = 63
	MaxPodName          = 253
	MaxPodUID           = 127
	MaxInfraContainerID = 127
)

// ParseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE". It never fails, because the variable is informal and each
// runtime fills it in its own way; it returns warnings for the log. A value that is too long, or has
// characters that no name has, is dropped and not cut: two namespaces must not become equal when their ends
// are cut off.
func ParseArgs(cniArgs string) (Identity, []string) {
	var id Identity
	var warnings []string
	for pair := range strings.SplitSeq(cniArgs, ";") {
		pair = strings.TrimSpace(pair)
		if pair == "" {
			continue
		}
		key, val, ok := strings.Cut(pair, "=")
		if !ok {
			warnings = appendWarning(warnings, "CNI_ARGS: %s is ignored: no \"=\" in it", quoted(pair))
			continue
		}
		field, longest := id.field(key)
		switch {
		case field == nil, val == "":
		case len(val) > longest:
			warnings = appendWarning(warnings, "CNI_ARGS: %s=%s is ignored: longer than %d bytes", key, quoted(val),
				longest)
		case !isName(val):
			warnings = appendWarning(warnings,
				"CNI_ARGS: %s=%s is ignored: not letters, digits, '.', '_' and '-' after a letter or digit", key,
				quoted(val))
		default:
			*field = val
		}
	}
	return id, warnings
}

// field returns the field for a key's value, nil for keys that the plugin does not read.
func (id *Identity) field(key string) (field *string, longest int) {
	switch key {
	case "K8S_POD_NAMESPACE":
		return &id.PodNamespace, MaxPodNamespace
	case "K8S_POD_NAME":
		return &id.PodName, MaxPodName
	case "K8S_POD_UID":
		return &id.PodUID, MaxPodUID
	case "K8S_POD_INFRA_CONTAINER_ID":
		return &id.InfraContainerID, MaxInfraContainerID
	}
	return nil, 0
}

// isName accepts what CNI accepts as a container ID. The values are used in paths and metric labels: no
// slash, no quote, no control character, and not "..".
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}
