// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

var errNotChained = errors.New(`must be chained: no prevResult (list sockmap in "plugins" of a .conflist, behind the ` +
	`plugin that makes the interface)`)

// codeOf returns the CNI error code of an error: for a wrong call or configuration, or else for the reason
// why a container is not accelerated.
func codeOf(err error) uint {
	var (
		syntax *cniconf.SyntaxError
		field  *cniconf.FieldError
	)
	switch {
	case errors.As(err, &syntax):
		return types.ErrDecodingFailure
	case errors.As(err, &field), errors.Is(err, errNotChained), errors.Is(err, endpoint.ErrNoNetwork):
		return types.ErrInvalidNetworkConfig
	}
	return endpoint.ReasonOf(err).Code()
}

// errorWithCode converts err to an error that skel passes on with its code.
func errorWithCode(err error) *types.Error {
	return types.NewError(codeOf(err), explainError(err).Error(), "")
}

// finish ends a call: it writes the result or the error of skel, and returns the exit status.
func (h *handler) finish(verb string, failed *types.Error) int {
	if failed == nil && h.result != nil {
		if _, err := h.stdout.Write(h.result); err != nil {
			failed = types.NewError(types.ErrIOFailure, fmt.Sprintf("write result: %v", err), "")
		}
	}
	h.recordCall(verb, failed)
	if failed == nil {
		return 0
	}
	if suppressDELError(verb, failed) {
		h.logger(nil, nil).Warn("DEL succeeds in spite of an error", "error", failed)
		return 0
	}
	h.printError(explainVersionError(failed))
	return 1
}

// suppressDELError reports whether an error is withheld from the runtime.
//
// Runtimes stop the DELs of a chain at the first error, and this plugin comes first there, so an error would
// leak the container's addresses and interfaces. This includes errors of skel before or after the handler: a
// broken configuration, versions, and a path of a network namespace that is now that of the host. Only
// missing variables, which every DEL needs, are reported.
func suppressDELError(verb string, failed *types.Error) bool {
	return verb == "DEL" && failed.Code != types.ErrInvalidEnvironmentVariables
}

// explainVersionError adds the supported versions to skel's error for an unsupported cniVersion.
func explainVersionError(e *types.Error) *types.Error {
	if e.Code != types.ErrIncompatibleCNIVersion || e.Msg != "incompatible CNI versions" {
		return e
	}
	msg := fmt.Sprintf("incompatible cniVersion: plugin chains, and with them sockmap, begin with 0.3.0 (set "+
		"cniVersion "+
		"in the conflist to one of %s)", strings.Join(supported.SupportedVersions(), ", "))
	return types.NewError(e.Code, msg, e.Details)
}

// printError writes the error in the format of the specification, with the version that types.Error leaves
// out.
func (h *handler) printError(e *types.Error) {
	out := struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{h.cniVersion, e}
	if out.CNIVersion == "" {
		out.CNIVersion = supported.SupportedVersions()[len(supported.SupportedVersions())-1]
	}
	if err := json.NewEncoder(h.stdout).Encode(out); err != nil {
		h.logger(nil, nil).Error("write error to standard output", "error", err, "unwritten", e)
	}
}
