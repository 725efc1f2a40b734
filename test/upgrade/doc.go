// SPDX-License-Identifier: Apache-2.0

// Package upgrade has tests only: they go from the last version of an older ABI to this one under traffic, and back, with the
// binaries of both.
package upgrade
