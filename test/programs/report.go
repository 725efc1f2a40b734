// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what one kernel has shown.
type Report struct {
	Kernel string   `json:"kernel"`           // release of it
	Date   string   `json:"date"`             // of the run, in UTC
	Commit string   `json:"commit,omitempty"` // of the sources, where that is known
	Off    []string `json:"off,omitempty"`    // hazards for which nothing is accelerated by default
	Guards []string `json:"guards"`           // that run
	Cases  []Case   `json:"cases"`
}

// Case is a client and a server that have talked.
type Case struct {
	Name   string        `json:"name"`
	Took   time.Duration `json:"took"`
	Error  string        `json:"error,omitempty"`   // what failed with sockmap
	Plain  string        `json:"plain,omitempty"`   // what failed without, when that was tried
	NotRun string        `json:"not_run,omitempty"` // why it was not run
	Client End           `json:"client"`
	Server End           `json:"server"`
}

// End is one of the two. Bytes are of what it has received from the other.
type End struct {
	Program    string   `json:"program"`
	Version    string   `json:"version"`
	Received   uint64   `json:"received"` // as payload, in bytes, within some hundred
	Redirected uint64   `json:"redirected"`
	Sockets    int      `json:"sockets"`  // connected ones that were seen
	Blocking   int      `json:"blocking"` // those without O_NONBLOCK
	Reasons    []string `json:"reasons,omitempty"`
	Note       string   `json:"note,omitempty"` // how it is configured
}

// Share of the received bytes that were redirected, 0 to 1.
func (e End) Share() float64 {
	if e.Received == 0 {
		return 0
	}
	return float64(e.Redirected) / float64(e.Received)
}

// Blocks reports whether the end waits inside receive calls. Descriptors tell, but for programs that pass MSG_DONTWAIT on
// one without O_NONBLOCK: to those everything is redirected.
func (e End) Blocks() bool { return e.Blocking > 0 && 2*e.Blocking >= e.Sockets && e.Share() < enough }

// newReport is one of this kernel, without cases.
func newReport() (*Report, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("ask the kernel for its name: %w", err)
	}
	return &Report{Kernel: unix.ByteSliceToString(name.Release[:]), Date: time.Now().UTC().Format(time.DateOnly)}, nil
}

// ran reports whether a case has begun.
func (r *Report) ran() bool {
	return slices.ContainsFunc(r.Cases, func(c Case) bool { return c.NotRun == "" })
}

func (r *Report) write(file string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func readReport(file string) (*Report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", file, err)
	}
	return r, nil
}

// verdict prints a line for each case. It is an error when a program has failed, and when bytes were redirected although
// something keeps acceleration off, or none were although nothing does.
func (r *Report) verdict(out io.Writer) error {
	failed, ran, redirected := 0, 0, uint64(0)
	for _, c := range r.Cases {
		if c.NotRun != "" {
			fmt.Fprintf(out, "%-22s NOT RUN: %s\n", c.Name, c.NotRun)
			continue
		}
		ran++
		redirected += c.Client.Redirected + c.Server.Redirected
		fmt.Fprintf(out, "%-22s %5.1f s  client %s  server %s\n", c.Name, c.Took.Seconds(), c.Client, c.Server)
		if c.Error != "" {
			failed++
			fmt.Fprintf(out, "  FAILED: %s\n", c.Error)
			if c.Plain == "" {
				fmt.Fprintf(out, "  IT DOES NOT FAIL ON PLAIN TCP\n")
			} else {
				fmt.Fprintf(out, "  on plain TCP: %s\n", c.Plain)
			}
		}
	}
	switch {
	case ran == 0:
		return fmt.Errorf("no case was run")
	case failed > 0:
		return fmt.Errorf("%d of %d failed", failed, ran)
	case len(r.Off) > 0 && redirected > 0:
		return fmt.Errorf("%d bytes were redirected, although %v is open", redirected, r.Off)
	case len(r.Off) == 0 && redirected == 0:
		return fmt.Errorf("nothing was redirected, although no severe hazard is open")
	}
	return nil
}

func (e End) String() string {
	return fmt.Sprintf("%s %s: %.0f %% of %d bytes, %d of %d sockets block, %v", e.Program, e.Version, 100*e.Share(), e.Received,
		e.Blocking, e.Sockets, e.Reasons)
}
