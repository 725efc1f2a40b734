// SPDX-License-Identifier: Apache-2.0

// Package golden compares output of tests with files. Run the tests with -update to write the files.
package golden
