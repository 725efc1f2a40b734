// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

func TestOldStateThatCannotBeConvertedIsRefusedBeforeItIsTouched(t *testing.T) {
	for _, m := range carried {
		t.Run(m.pin, func(t *testing.T) {
			dir := newStateDir(t)
			pinABI1(t, dir)
			defer func() {
				if err := Unload(dir, true); err != nil {
					t.Error(err)
				}
			}()
			old := layout{dir, stateName(1)}
			if err := os.Remove(old.pin(m.pin)); err != nil {
				t.Fatal(err)
			}
			newPinned(t, old, m.pin, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 24, MaxEntries: 8})
			_, ok, err := ReadOld(dir)
			if ok || !errors.Is(err, ErrForeignState) || !strings.Contains(err.Error(), m.pin) {
				t.Errorf("%v, %v, want an ErrForeignState of %s", ok, err, m.pin)
			}
		})
	}
}
