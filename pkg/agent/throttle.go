// SPDX-License-Identifier: Apache-2.0

package agent

import "time"

// throttle keeps two components that want a file differently from rewriting it without end. The first repair
// is immediate. The wait doubles with each further one, until the file has been left alone for a while. Times
// are monotonic, so setting the clock has no effect.
type throttle struct {
	repairs int
	until   time.Time // no repair before this time
}

const (
	throttleFirst = time.Second
	throttleMost  = 5 * time.Minute
	throttleQuiet = 2 * time.Minute // after the end of the wait
)

// hit records a repair and returns how long the next one has to wait.
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

// throttles has one throttle for each file that other components write, too. The plugin's binary has none: no
// pod can start without it while an entry names it.
type throttles map[string]*throttle

func (t throttles) hit(file string, now time.Time) time.Duration {
	if t[file] == nil {
		t[file] = &throttle{}
	}
	return t[file].hit(now)
}

// wait returns how long the file must not be repaired.
func (t throttles) wait(file string, now time.Time) time.Duration {
	if t[file] == nil {
		return 0
	}
	return t[file].wait(now)
}

// wait returns how long no repair is allowed.
func (t *throttle) wait(now time.Time) time.Duration { return max(0, t.until.Sub(now)) }

// backoff is the time between failing attempts.
type backoff struct{ first, most, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(b.most, max(b.first, 2*b.last))
	return b.last
}

func (b *backoff) reset() { b.last = 0 }
