// SPDX-License-Identifier: Apache-2.0

// Package bundle builds a support bundle: it replaces addresses and names with pseudonyms, reads the
// properties of the kernel, and writes the archive. The caller selects the parts.
package bundle
