// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Where names the CPUs on which both ends of a cell ran.
func Where(c result.Cell) string {
	switch c.CPUs {
	case "":
		return ""
	case "same":
		return "one CPU"
	case "two":
		return "two CPUs"
	}
	return c.CPUs
}

// Label names a cell within its group.
func Label(c result.Cell) string {
	how := strings.Trim(c.Measure+", "+Where(c), ", ")
	if how == "" {
		return c.Name
	}
	return c.Name + " (" + how + ")"
}
