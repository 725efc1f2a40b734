// SPDX-License-Identifier: Apache-2.0

package agent

import "sync"

// logOnce remembers the last text of each subject, so that the same text is logged once. Its zero value is
// ready.
type logOnce struct {
	mu    sync.Mutex
	texts map[string]string
}

// changed reports whether text differs from the last one; empty means that there is nothing to report.
func (r *logOnce) changed(subject, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts[subject] == text {
		return false
	}
	if r.texts == nil {
		r.texts = map[string]string{}
	}
	r.texts[subject] = text
	return true
}
