// SPDX-License-Identifier: Apache-2.0

package counting

import (
	"testing"
	"time"
)

const one = `version 15
timestamp 4294895321
cpu0 0 0 3456 1200 2100 1900 987654321 123456 2200
domain0 1 0 0 0 0 0 0 0
`

func TestTimeOfTasksIsRead(t *testing.T) {
	got, err := ranIn([]byte(one))
	if err != nil || got != 987654321 {
		t.Errorf("%d, %v", got, err)
	}
	for name, text := range map[string]string{
		"no processor":  "version 15\n",
		"two":           one + "cpu1 0 0 1 1 1 1 5 1 1\n",
		"not a number":  "cpu0 0 0 1 1 1 1 x 1 1\n",
		"another shape": "cpu0 0 0 1\n",
	} {
		if got, err := ranIn([]byte(text)); err == nil {
			t.Errorf("%s: %d is no error", name, got)
		}
	}
}

func TestIdleTimeDoesNotCountAsWork(t *testing.T) {
	if got := (Work{Ran: 3 * time.Second, Idle: time.Second}).Share(); got != 0.25 {
		t.Error(got)
	}
	if got := Each(8*time.Microsecond, 4); got != 2000 {
		t.Error(got)
	}
	if got := Each(-time.Second, 4); got != 0 {
		t.Error("less than no work: ", got)
	}
}
