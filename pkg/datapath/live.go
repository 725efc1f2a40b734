// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Coexist decides what happens if another program above a cgroup owns a sockmap or sockhash.
type Coexist string

// See bpf/abi.h.
const (
	CoexistYield Coexist = "yield" // also if it is empty
	CoexistShare Coexist = "share"
)

// Helpers decides what happens to ports whose payload a conntrack helper of the node rewrites.
type Helpers string

// See bpf/abi.h.
const (
	HelpersAvoid  Helpers = "avoid" // also if it is empty
	HelpersIgnore Helpers = "ignore"
)

// Live are the node-wide settings that can change at any time and then also apply to live flows.
type Live struct {
	MaxBacklogBytes    uint32 // that may wait for one reader
	MaxBacklogMessages uint32 // that may wait for one reader
	NATRefreshSeconds  uint32 // a busy direction sends one message over TCP in each such interval; 0: never
	Coexist            Coexist
	Helpers            Helpers
}

// SetLive brings all settings that can change at any time into force.
func (d *Datapath) SetLive(l Live) error {
	return d.update(l.write)
}

func (l Live) write(c *bpf.SockmapConfig) {
	c.MaxBacklogBytes, c.MaxBacklogMessages = l.MaxBacklogBytes, l.MaxBacklogMessages
	c.NatRefreshSeconds, c.RefreshTicks = l.NATRefreshSeconds, ticks(l.NATRefreshSeconds)
	c.Coexist = uint32(bpf.SockmapCoexistCOEXIST_YIELD)
	if l.Coexist == CoexistShare {
		c.Coexist = uint32(bpf.SockmapCoexistCOEXIST_SHARE)
	}
	c.HelpersMode = uint8(bpf.SockmapHelpersModeHELPERS_AVOID)
	if l.Helpers == HelpersIgnore {
		c.HelpersMode = uint8(bpf.SockmapHelpersModeHELPERS_IGNORE)
	}
}

// decodeLive is the inverse of write.
func decodeLive(c *bpf.SockmapConfig) Live {
	l := Live{
		MaxBacklogBytes: c.MaxBacklogBytes, MaxBacklogMessages: c.MaxBacklogMessages,
		NATRefreshSeconds: c.NatRefreshSeconds,
		Coexist:           CoexistYield, Helpers: HelpersAvoid,
	}
	if c.Coexist == uint32(bpf.SockmapCoexistCOEXIST_SHARE) {
		l.Coexist = CoexistShare
	}
	if c.HelpersMode == uint8(bpf.SockmapHelpersModeHELPERS_IGNORE) {
		l.Helpers = HelpersIgnore
	}
	return l
}

// Live returns the settings that can change at any time, with defaults instead of empty values.
func (s *Settings) Live() Live {
	var c bpf.SockmapConfig
	Live{s.MaxBacklogBytes, s.MaxBacklogMessages, s.NATRefreshSeconds, s.Coexist, s.Helpers}.write(&c)
	return decodeLive(&c)
}

func (s *Settings) setLive(l Live) {
	s.MaxBacklogBytes, s.MaxBacklogMessages, s.NATRefreshSeconds = l.MaxBacklogBytes, l.MaxBacklogMessages,
		l.NATRefreshSeconds
	s.Coexist, s.Helpers = l.Coexist, l.Helpers
}

// ticks converts seconds; the result is at least 1 unless seconds is 0.
func ticks(seconds uint32) uint32 {
	return uint32(uint64(seconds) * uint64(time.Second) >> bpf.SockmapTickTICK_SHIFT)
}

// coarse reads the clock that the verdict compares with: CLOCK_MONOTONIC at the kernel's last tick, so it is
// never ahead of what a program reads later.
func coarse() uint64 {
	var ts unix.Timespec
	// It cannot fail for a clock that exists since 2.6.32.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts)
	return uint64(ts.Nano())
}
