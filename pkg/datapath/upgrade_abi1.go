// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Sizes of values in ABI 1 that differ from later ABIs only at their end.
const (
	abi1EndpointSize   = 144
	abi1AttachmentSize = 1216
)

// abi1Config is struct config of ABI 1.
type abi1Config struct {
	Abi, Disabled, Epoch                uint32
	MaxBacklogBytes, MaxBacklogMessages uint32
	Learn, Hazards, Guards              uint32
	LoadedNs                            uint64
	Version                             [48]uint8
	TapUntilNs                          uint64
	Tap                                 [16]uint8
}

// abi1Totals is struct totals of ABI 1. It had no room for results and reasons that came later.
type abi1Totals struct {
	RedirectedBytes, RedirectedMessages, TcpBytes, TcpMessages uint64
	Flows                                                      [2][abi1Results]uint64
	Fallbacks                                                  [20]uint64
	BacklogHigh                                                uint64
}

const abi1Results = 13

// abi1RefreshSeconds is the default of the key natRefreshSeconds, which ABI 1 did not have. The next ADD sets
// what its configuration says.
const abi1RefreshSeconds = 60

// fromABI1 is the Conversion from ABI 1.
func fromABI1(pin string, key, value []byte) (newKey, newValue []byte, err error) {
	switch pin {
	case bpf.SockmapMapConfig:
		newValue, err = configFromABI1(value)
	case bpf.SockmapMapTotals:
		newValue, err = totalsFromABI1(value)
	case bpf.SockmapMapEndpoints: // has got room at its end, and its padding was zero
		newValue, err = widened(value, abi1EndpointSize, binary.Size(bpf.SockmapEndpoint{}))
	case bpf.SockmapMapAttachments: // has got room at its end
		newValue, err = widened(value, abi1AttachmentSize, binary.Size(bpf.SockmapAttachment{}))
	case bpf.SockmapMapAvoid:
		newValue, err = avoidedFromABI1(value)
	default: // history and calls are as they were
		newValue = value
	}
	return key, newValue, err
}

func configFromABI1(value []byte) ([]byte, error) {
	var old abi1Config
	if err := decodeABI1(value, &old); err != nil {
		return nil, err
	}
	c := bpf.SockmapConfig{
		Abi: old.Abi, Disabled: old.Disabled, Epoch: old.Epoch, Learn: old.Learn, Hazards: old.Hazards,
		Guards:   old.Guards,
		LoadedNs: old.LoadedNs,
	}
	copy(c.Version[:], old.Version[:])
	Live{
		MaxBacklogBytes: old.MaxBacklogBytes, MaxBacklogMessages: old.MaxBacklogMessages,
		NATRefreshSeconds: abi1RefreshSeconds,
	}.write(&c)
	return binary.Append(nil, binary.NativeEndian, &c)
}

func totalsFromABI1(value []byte) ([]byte, error) {
	var old abi1Totals
	if err := decodeABI1(value, &old); err != nil {
		return nil, err
	}
	sums := bpf.SockmapTotals{
		RedirectedBytes: old.RedirectedBytes, RedirectedMessages: old.RedirectedMessages,
		TcpBytes: old.TcpBytes, TcpMessages: old.TcpMessages, BacklogHigh: old.BacklogHigh,
	}
	for role := range old.Flows {
		copy(sums.Flows[role*resultRoom:], old.Flows[role][:])
	}
	copy(sums.Fallbacks[:], old.Fallbacks[:])
	return binary.Append(nil, binary.NativeEndian, &sums)
}

// avoidedFromABI1 starts the time of AvoidFor now, because ABI 1 did not keep when a port was noted.
func avoidedFromABI1(value []byte) ([]byte, error) {
	var habits uint32
	if err := decodeABI1(value, &habits); err != nil {
		return nil, err
	}
	return binary.Append(nil, binary.NativeEndian, &bpf.SockmapAvoided{NotedNs: coarse(), Habits: habits})
}

func decodeABI1(value []byte, into any) error {
	if want := binary.Size(into); len(value) != want {
		return fmt.Errorf("a value has %d bytes, those of ABI 1 have %d", len(value), want)
	}
	_, err := binary.Decode(value, binary.NativeEndian, into)
	return err
}

func widened(value []byte, was, size int) ([]byte, error) {
	if len(value) != was {
		return nil, fmt.Errorf("a value has %d bytes, those of ABI 1 have %d", len(value), was)
	}
	return append(append(make([]byte, 0, size), value...), make([]byte, size-was)...), nil
}
