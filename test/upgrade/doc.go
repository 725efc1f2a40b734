// SPDX-License-Identifier: Apache-2.0

// Package upgrade has tests only. They upgrade from the last version of an older ABI to this one under
// traffic, and back, with the binaries of both.
package upgrade
