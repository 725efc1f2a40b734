// SPDX-License-Identifier: Apache-2.0

package version

import "testing"

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		order int
		ok    bool
	}{
		{"v1.2.3", "v1.2.3", 0, true},
		{"v1.2.3", "v1.10.0", -1, true},
		{"v2.0.0", "v1.10.0", 1, true},
		{"v1.3.0-rc.1", "v1.3.0", -1, true},
		{"v1.2.3-5-gabcdef0", "v1.2.3", 1, true},
		{"v1.2.3-5-gabcdef0", "v1.2.3-12-g0123456", -1, true},
		{"v1.2.3-12-gabcdef0-dirty", "v1.2.4", -1, true},
		{"v1.3.0-rc.1-2-gabcdef0", "v1.3.0-rc.1", 1, true},
		{"v1.3.0-rc.1-2-gabcdef0", "v1.3.0", -1, true},
		{"v1.2.3-dirty", "v1.2.3", 0, true},
		{"v0.0.0-20260101000000-abcdefabcdef", "v0.0.0-20260201000000-0123456789ab", -1, true},
		{"0123456789ab", "ba9876543210", 0, false},
		{"0123456789ab", "v1.2.3", 0, false},
		{"1234567", "v1.2.3", 0, false}, // a commit whose name has no letters
		{"devel", "devel", 0, true},
		{"", "v1.2.3", 0, false},
	} {
		if order, ok := Compare(c.a, c.b); order != c.order || ok != c.ok {
			t.Errorf("%q and %q: %d, %v; want %d, %v", c.a, c.b, order, ok, c.order, c.ok)
		}
		if order, ok := Compare(c.b, c.a); order != -c.order || ok != c.ok {
			t.Errorf("%q and %q: %d, %v; want %d, %v", c.b, c.a, order, ok, -c.order, c.ok)
		}
	}
}
