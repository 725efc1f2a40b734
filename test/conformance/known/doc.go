// SPDX-License-Identifier: Apache-2.0

// Package known is the table of what is known to differ when a connection is
// accelerated, and the judgement of a report by it: whatever is not in the table,
// is worse than it says, or should have been cured by a guard that runs, is a
// failure.
package known
