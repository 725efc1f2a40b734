// SPDX-License-Identifier: Apache-2.0

// Package failing has a test with every outcome, for the tests of the report.
package failing

import "testing"

func TestPasses(t *testing.T) {
	t.Run("one", func(t *testing.T) { t.Log("fine") })
	t.Run("two", func(t *testing.T) {})
}

func TestSkips(t *testing.T) { t.Skip("no reason") }

func TestFails(t *testing.T) {
	t.Run("inside", func(t *testing.T) { t.Error("five is not four") })
	t.Run("beside", func(t *testing.T) {})
}

func TestDies(t *testing.T) {
	t.Log("about to die")
	panic("the end of the binary")
}

func TestNeverBegins(t *testing.T) {}
