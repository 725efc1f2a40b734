// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// No pod starts without the binary as long as an entry names it, even if another component insists on another
// list.
func TestTheBinaryIsRepairedAtOnceWhileTheListHasToWait(t *testing.T) {
	const message = "another component undid the installation; it is repaired"
	p := newPlace(t)
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	// Repairs of the list only: the plugin may be rebuilt while the test runs.
	repairs := func() (all []map[string]any) {
		for _, record := range r.log.Records(t, message) {
			if record["file"] == filepath.Join(p.ConfDir, file) {
				all = append(all, record)
			}
		}
		return all
	}
	// Then it waits 1, 2, 4 and 8 seconds.
	for n := 1; n <= 4; n++ {
		p.write(file, list)
		eventually(t, "the list is put right", func() bool { return len(repairs()) == n })
	}
	p.write(file, list)
	binary := filepath.Join(p.BinDir, "sockmap")
	if err := os.Remove(binary); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, "the binary is there again", func() bool {
		_, err := os.Stat(binary)
		return err == nil
	})
	if took := time.Since(start); took > 5*time.Second || p.chained() {
		t.Errorf("it took %v, or the list did not have to wait", took)
	}
	eventually(t, "the list is put right", p.chained)
	// It does not count for the list: the next hold is the fifth.
	eventually(t, "that is counted", func() bool { return len(repairs()) == 5 })
	if got := repairs()[4]["nextRepairNotBefore"]; got != "16s" {
		t.Errorf("the list has to wait %v", got)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
