// SPDX-License-Identifier: Apache-2.0

// Package bundle packs what a support bundle consists of: it replaces addresses and names by pseudonyms, reads what
// the kernel is like, and writes the archive. Which parts there are is for the command to say.
package bundle
