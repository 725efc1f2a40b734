// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

func TestSettingsThatChangeLiveAreReadBack(t *testing.T) {
	d := load(t, defaults)
	for _, tt := range []struct {
		live    Live
		ticks   uint32 // of 2^20 ns
		coexist uint32
		helpers uint8
	}{
		{Live{4096, 1, 0, CoexistYield, HelpersAvoid}, 0, 0, 0},
		{Live{4096, 1, 1, CoexistShare, HelpersAvoid}, 953, 1, 0},
		{Live{1 << 30, 1 << 20, 60, CoexistYield, HelpersIgnore}, 57220, 0, 1},
		{Live{4096, 1, 3600, CoexistShare, HelpersIgnore}, 3433227, 1, 1},
	} {
		if err := d.SetLive(tt.live); err != nil {
			t.Fatal(err)
		}
		cfg, err := d.Config()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Live() != tt.live {
			t.Errorf("got %+v, want %+v", cfg.Live(), tt.live)
		}
		raw := rawConfigOf(t, d)
		if raw.RefreshTicks != tt.ticks || raw.Coexist != tt.coexist || raw.HelpersMode != tt.helpers {
			t.Errorf("%+v: the programs read %d ticks, coexist %d, helpers %d, want %d, %d, %d", tt.live,
				raw.RefreshTicks, raw.Coexist, raw.HelpersMode, tt.ticks, tt.coexist, tt.helpers)
		}
	}
}

func TestEmptySettingsHaveDefaults(t *testing.T) {
	want := Live{MaxBacklogBytes: 7, Coexist: CoexistYield, Helpers: HelpersAvoid}
	if got := (&Settings{MaxBacklogBytes: 7}).Live(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSwitchAndEpochHaveTheTimeOfTheirChange(t *testing.T) {
	d := load(t, defaults)
	for _, tt := range []struct {
		what    string
		change  func() error
		at      func(bpf.SockmapConfig) uint64
		changes bool
	}{
		{"disable", func() error { return d.SetDisabled(true) }, disabledAt, true},
		{"disable again", func() error { return d.SetDisabled(true) }, disabledAt, false},
		{"enable", func() error { return d.SetDisabled(false) }, disabledAt, true},
		{"epoch", d.bumpEpoch, epochAt, true},
		{"epoch, right after", d.bumpEpoch, epochAt, false},
		{"epoch, two seconds after", func() error {
			return errors.Join(agedEpoch(d, 2*time.Second), d.bumpEpoch())
		}, epochAt, true},
		{"epoch, the switch", d.bumpEpoch, disabledAt, false},
	} {
		was := tt.at(rawConfigOf(t, d))
		tick := coarse()
		eventually(t, "the coarse clock has gone on", func() bool { return coarse() > tick })
		before := coarse()
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		got := tt.at(rawConfigOf(t, d))
		if tt.changes && (got < before || got > coarse()) {
			t.Errorf("%s: got %d, want a time from %d to %d", tt.what, got, before, coarse())
		}
		if !tt.changes && got != was {
			t.Errorf("%s: the time has changed", tt.what)
		}
	}
}

// agedEpoch makes the last change of the epoch older.
func agedEpoch(d *Datapath, by time.Duration) error {
	return d.update(func(c *bpf.SockmapConfig) { c.EpochNs -= uint64(by) })
}

func epochAt(c bpf.SockmapConfig) uint64 { return c.EpochNs }

func disabledAt(c bpf.SockmapConfig) uint64 { return c.DisabledNs }

func rawConfigOf(t *testing.T, d *Datapath) bpf.SockmapConfig {
	t.Helper()
	cfg, err := d.config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
