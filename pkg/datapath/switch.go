// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
	"golang.org/x/sys/unix"
)

// Switch names a part of the node that a person has switched off. It stays on TCP until it is switched on
// again, also if the pod is recreated. Switches are kept beside the pins, so a reboot or an unload removes
// them.
type Switch struct {
	Kind SwitchKind
	// Name is "namespace/name" of a pod or the id of its sandbox, the name of a Kubernetes namespace, or
	// ports: "80" or "8000-8010".
	Name string
	// At is when it was switched off, for people. SetSwitch sets it.
	At time.Time
}

// SwitchKind is the kind of part that a Switch names.
type SwitchKind string

// The kinds.
const (
	SwitchPod       SwitchKind = "pod"
	SwitchNamespace SwitchKind = "namespace"
	SwitchPort      SwitchKind = "port"
)

// switchKinds are all of them, in the order in which they are shown.
var switchKinds = []SwitchKind{SwitchNamespace, SwitchPod, SwitchPort}

func (s Switch) String() string { return string(s.Kind) + " " + s.Name }

// Ports is the range of a SwitchPort.
func (s Switch) Ports() (PortRange, error) {
	r, ok := portrange.Parse(s.Name)
	if !ok {
		return r, fmt.Errorf("port %q is neither a port nor a range like 8000-8010", s.Name)
	}
	return r, nil
}

// Check returns an error for a switch that cannot be kept.
func (s Switch) Check() error {
	switch {
	case !slices.Contains(switchKinds, s.Kind):
		return fmt.Errorf("a switch for %q is not known", s.Kind)
	case s.Name == "" || len(s.Name) > mostOfName || strings.ContainsAny(s.Name, "\x00\n "):
		return fmt.Errorf("%q cannot be the name of a %s", s.Name, s.Kind)
	case s.Kind == SwitchPort:
		_, err := s.Ports()
		return err
	}
	return nil
}

// mostOfName bounds a name: that of a pod has 253 characters and its namespace 63.
const mostOfName = 512

// switchesDir is beside the pins of a state. A switch is a symbolic link, as bpffs holds no files: its name
// is a hash, because bpffs refuses names with a dot, and its target says what it is and when it was made.
const switchesDir = "switches"

func (d *Datapath) switchPin(s Switch) string {
	sum := sha256.Sum256([]byte(s.String()))
	return filepath.Join(d.layout.pin(switchesDir), string(s.Kind)+"-"+hex.EncodeToString(sum[:16]))
}

// SetSwitch switches a part off for new endpoints, and reports whether that is a change. The caller updates
// live endpoints by SetEndpoint. The caller holds the lock on the state directory.
func (d *Datapath) SetSwitch(s Switch) (changed bool, err error) {
	if err := s.Check(); err != nil {
		return false, err
	}
	if err := os.Mkdir(d.layout.pin(switchesDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("keep switch: %w", err)
	}
	target := fmt.Sprintf("%d %s %s", bootTime(), s.Kind, s.Name)
	err = os.Symlink(target, d.switchPin(s))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keep switch: %w", err)
	}
	return true, nil
}

// ClearSwitch removes a switch, and reports whether there was one.
func (d *Datapath) ClearSwitch(s Switch) (changed bool, err error) {
	err = unix.Unlink(d.switchPin(s))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove switch %s: %w", s, err)
	}
	return true, nil
}

// Switches lists what a person has switched off, sorted. It takes no lock.
func (d *Datapath) Switches() ([]Switch, error) {
	dir := d.layout.pin(switchesDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list switches: %w", err)
	}
	var all []Switch
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // switched on meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read switch: %w", err)
		}
		if s, ok := parseSwitch(target); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Switch) int {
		return cmp.Or(cmp.Compare(slices.Index(switchKinds, a.Kind), slices.Index(switchKinds, b.Kind)),
			cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// parseSwitch decodes a switch that SetSwitch has written. ok is false for one of another version.
func parseSwitch(target string) (s Switch, ok bool) {
	parts := strings.SplitN(target, " ", 3)
	if len(parts) != 3 {
		return s, false
	}
	ns, err := strconv.ParseUint(parts[0], 10, 64)
	s = Switch{SwitchKind(parts[1]), parts[2], sinceBoot(ns)}
	return s, err == nil && s.Check() == nil
}

// carrySwitches copies the switches of another state, which this one replaces.
func (d *Datapath) carrySwitches(from layout) error {
	all, err := open(from).Switches()
	if err != nil {
		return err
	}
	for _, s := range all {
		if _, err := d.SetSwitch(s); err != nil {
			return err
		}
	}
	return nil
}
