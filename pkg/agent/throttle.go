// SPDX-License-Identifier: Apache-2.0

package agent

import "time"

// throttle keeps two components that want a file differently from rewriting it for ever. The first repair is done at
// once; each further one has to wait twice as long, until it has been quiet for a while. Times are monotonic: clocks
// that are set make no difference.
type throttle struct {
	repairs int
	until   time.Time // no repair before
}

const (
	throttleFirst = time.Second
	throttleMost  = 5 * time.Minute
	throttleQuiet = 2 * time.Minute // beyond the wait
)

// hit notes a repair and returns how long the next one has to wait.
func (t *throttle) hit(now time.Time) time.Duration {
	if t.repairs > 0 && now.Sub(t.until) > throttleQuiet {
		t.repairs = 0
	}
	t.repairs++
	wait := throttleMost
	if shift := t.repairs - 1; shift < 16 {
		wait = min(throttleMost, throttleFirst<<shift)
	}
	t.until = now.Add(wait)
	return wait
}

// throttles has one for each file that somebody else writes, too. The binary has none: while an entry names it, no pod
// starts without it.
type throttles map[string]*throttle

func (t throttles) hit(file string, now time.Time) time.Duration {
	if t[file] == nil {
		t[file] = &throttle{}
	}
	return t[file].hit(now)
}

// wait is how long no repair of file may be done.
func (t throttles) wait(file string, now time.Time) time.Duration {
	if t[file] == nil {
		return 0
	}
	return t[file].wait(now)
}

// wait is how long no repair may be done.
func (t *throttle) wait(now time.Time) time.Duration { return max(0, t.until.Sub(now)) }

// backoff is the time between attempts that fail.
type backoff struct{ first, most, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(b.most, max(b.first, 2*b.last))
	return b.last
}

func (b *backoff) reset() { b.last = 0 }
