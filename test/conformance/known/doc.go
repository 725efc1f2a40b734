// SPDX-License-Identifier: Apache-2.0

// Package known has the table of known differences of accelerated connections, and judges a report by it. A
// difference fails if it is not in the table, is worse than the table allows, or should have been cured by a
// guard that runs.
package known
