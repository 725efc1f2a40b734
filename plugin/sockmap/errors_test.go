// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"golang.org/x/sys/unix"
)

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want uint
	}{
		{&cniconf.SyntaxError{Err: errors.New("x")}, 6},
		{errors.Join(&cniconf.FieldError{Key: "a"}, &cniconf.FieldError{Key: "b"}), 7},
		{&endpoint.ConfigError{Err: errors.New("x")}, 7},
		{errNotChained, 7},
		{endpoint.ErrNetNS, 8},
		{endpoint.ErrBusy, 11},
		{&endpoint.HazardError{}, 102},
		{datapath.ErrUnsupported, 103},
		{&endpoint.LoadError{Err: errors.New("x")}, 105},
		{&datapath.StateError{}, 106},
		{datapath.ErrNoBPFFS, 107},
		{datapath.ErrTooManyPrograms, 110},
		{fmt.Errorf("%w: %w", datapath.ErrNoBPFFS, unix.EMFILE), 114},
		{&endpoint.ConfigError{Err: unix.ENOMEM}, 114},
		{errors.New("anything else"), 999},
	} {
		if got := codeOf(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%T (%v) has code %d, want %d", c.err, c.err, got, c.want)
		}
	}
}

func TestFinish(t *testing.T) {
	for _, c := range []struct {
		name, verb string
		failed     *types.Error
		status     int
		stdout     string
	}{
		{"success", "ADD", nil, 0, ""},
		{"ADD fails", "ADD", types.NewError(8, "no", "d"), 1,
			`{"cniVersion":"1.1.0","code":8,"msg":"no","details":"d"}` + "\n"},
		{"DEL does not", "DEL", types.NewError(8, "no", ""), 0, ""},
		{"but for missing variables", "DEL", types.NewError(4, "no", ""), 1,
			`{"cniVersion":"1.1.0","code":4,"msg":"no"}` + "\n"},
		{"other uses of code 1 keep their text", "GC", types.NewError(1, "config version does not allow GC", ""), 1,
			`{"cniVersion":"1.1.0","code":1,"msg":"config version does not allow GC"}` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			h := &handler{stdout: &stdout, stderr: &stderr}
			if status := h.finish(c.verb, c.failed); status != c.status || stdout.String() != c.stdout {
				t.Errorf("status %d, %q; want %d, %q", status, stdout.String(), c.status, c.stdout)
			}
			if swallowed := c.failed != nil && c.status == 0; swallowed != (stderr.Len() > 0) {
				t.Errorf("the log has %q", stderr.String())
			}
		})
	}
}
