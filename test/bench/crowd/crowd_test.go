// SPDX-License-Identifier: Apache-2.0

package crowd

import "testing"

// Both roles in one process, over loopback. The server ends with its process, so fixture.Main would report
// it.
func TestConnectionsOpenReplyAndHangUp(t *testing.T) {
	s, c := &server{}, &client{}
	do := func(f func(order) (answer, error), o order) answer {
		t.Helper()
		a, err := f(o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		return a
	}
	port := do(s.do, order{Listen: "127.0.0.1", Room: 20})
	do(c.do, order{Connect: port.Address, Room: 20})
	for _, n := range []int{5, 20} { // again after a hangup
		dialed := do(c.do, order{Dial: n})
		accepted := do(s.do, order{Await: n})
		if dialed.Open != n || accepted.Open != n || accepted.At < dialed.From {
			t.Errorf("%+v, %+v", dialed, accepted)
		}
		if a := do(c.do, order{Ask: true}); a.Open != n || a.Failed != 0 {
			t.Errorf("%+v", a)
		}
		do(c.do, order{Hangup: true})
		do(s.do, order{Hangup: true})
	}
	for _, f := range []func(order) (answer, error){s.do, c.do} {
		if _, err := f(order{}); err == nil {
			t.Error("an empty order is understood")
		}
	}
}
