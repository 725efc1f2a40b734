// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manyTotals is many times what the kernel has memory for at once.
const manyTotals = 8000

func fillTotals(t *testing.T, d *Datapath) {
	t.Helper()
	m, err := d.totals()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(manyTotals) {
		if err := newTotals(m, 1<<40+i); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

// An upgrade of the maps writes the totals of all endpoints in one go, and the kernel makes per-CPU memory in
// the background.
func TestABurstOfTotalsWaitsForMemory(t *testing.T) {
	d := load(t, defaults)
	fillTotals(t, d)
	makeOld(t, d)
	d = mustReplace(t, d.Dir())
	m, err := d.totals()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := countKeys(m, 2*manyTotals); n < manyTotals || err != nil {
		t.Errorf("%d totals were carried over, %v; want %d", n, err, manyTotals)
	}
}

func TestWaitForMemoryIsBounded(t *testing.T) {
	short := fmt.Errorf("put: %w", unix.ENOMEM)
	tries := 0
	err := waitForRefill(func() error {
		if tries++; tries < 5 {
			return short
		}
		return nil
	})
	if err != nil || tries != 5 {
		t.Errorf("%d tries, %v", tries, err)
	}
	began := time.Now()
	if err := waitForRefill(func() error { return short }); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("memory that stays short: %v", err)
	}
	if took := time.Since(began); took < refillWait/2 || took > 10*refillWait {
		t.Errorf("it waited %v, and the bound is %v", took, refillWait)
	}
	tries = 0
	if err := waitForRefill(func() error { tries++; return fs.ErrExist }); tries != 1 ||
		!errors.Is(err, fs.ErrExist) {
		t.Errorf("another error: %d tries, %v", tries, err)
	}
}
