// SPDX-License-Identifier: Apache-2.0

package agent

import "sync"

// logOnce is what was logged last of each subject, so that what stays the same is logged once. Its zero value is ready.
type logOnce struct {
	mu    sync.Mutex
	texts map[string]string
}

// changed tells whether text is another one than last time; empty stands for nothing to tell.
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
