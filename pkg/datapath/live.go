// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Coexist says what happens where another program above a cgroup owns a sockmap or sockhash.
type Coexist string

// See bpf/abi.h.
const (
	CoexistYield Coexist = "yield" // also if it is empty
	CoexistShare Coexist = "share"
)

// Helpers says what happens to ports whose payload a conntrack helper of the node rewrites.
type Helpers string

// See bpf/abi.h.
const (
	HelpersAvoid  Helpers = "avoid" // also if it is empty
	HelpersIgnore Helpers = "ignore"
)

// Live are the node-wide settings that can change at any time, and then count for live flows, too.
type Live struct {
	MaxBacklogBytes    uint32 // that may wait for one reader
	MaxBacklogMessages uint32 // that may wait for one reader
	NATRefreshSeconds  uint32 // a direction that is busy sends one message by TCP each so many seconds; 0: none
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

// decodeLive reads what write has written.
func decodeLive(c *bpf.SockmapConfig) Live {
	l := Live{
		MaxBacklogBytes: c.MaxBacklogBytes, MaxBacklogMessages: c.MaxBacklogMessages, NATRefreshSeconds: c.NatRefreshSeconds,
		Coexist: CoexistYield, Helpers: HelpersAvoid,
	}
	if c.Coexist == uint32(bpf.SockmapCoexistCOEXIST_SHARE) {
		l.Coexist = CoexistShare
	}
	if c.HelpersMode == uint8(bpf.SockmapHelpersModeHELPERS_IGNORE) {
		l.Helpers = HelpersIgnore
	}
	return l
}

// Live returns those of the settings that can change at any time, with a word for what was left empty.
func (s *Settings) Live() Live {
	var c bpf.SockmapConfig
	Live{s.MaxBacklogBytes, s.MaxBacklogMessages, s.NATRefreshSeconds, s.Coexist, s.Helpers}.write(&c)
	return decodeLive(&c)
}

func (s *Settings) setLive(l Live) {
	s.MaxBacklogBytes, s.MaxBacklogMessages, s.NATRefreshSeconds = l.MaxBacklogBytes, l.MaxBacklogMessages, l.NATRefreshSeconds
	s.Coexist, s.Helpers = l.Coexist, l.Helpers
}

// ticks are at least one for any time that is not zero.
func ticks(seconds uint32) uint32 {
	return uint32(uint64(seconds) * uint64(time.Second) >> bpf.SockmapTickTICK_SHIFT)
}

// coarse is the clock with which the verdict compares: CLOCK_MONOTONIC as of the last tick of the kernel,
// hence never ahead of what a program reads later.
func coarse() uint64 {
	var ts unix.Timespec
	// It cannot fail for a clock that exists since 2.6.32.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts)
	return uint64(ts.Nano())
}
