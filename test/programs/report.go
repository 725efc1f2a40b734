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

// Report has the results of one kernel.
type Report struct {
	Kernel string   `json:"kernel"`           // release of the kernel
	Date   string   `json:"date"`             // date of the run, in UTC
	Commit string   `json:"commit,omitempty"` // commit of the sources, if known
	Off    []string `json:"off,omitempty"`    // hazards that prevent acceleration by default
	Guards []string `json:"guards"`           // guards that ran
	Cases  []Case   `json:"cases"`
}

// Case is the result of a client and a server.
type Case struct {
	Name   string        `json:"name"`
	Took   time.Duration `json:"took"`
	Error  string        `json:"error,omitempty"`   // the error with sockmap
	Plain  string        `json:"plain,omitempty"`   // the error without, if that was tried
	NotRun string        `json:"not_run,omitempty"` // why it was not run
	Client End           `json:"client"`
	Server End           `json:"server"`
}

// End is one of the two ends. Bytes are those that it received from the other.
type End struct {
	Program    string   `json:"program"`
	Version    string   `json:"version"`
	Received   uint64   `json:"received"` // payload in bytes, accurate to some hundred
	Redirected uint64   `json:"redirected"`
	Sockets    int      `json:"sockets"`  // connected sockets that were seen
	Blocking   int      `json:"blocking"` // those of them without O_NONBLOCK
	Reasons    []string `json:"reasons,omitempty"`
	Note       string   `json:"note,omitempty"` // its configuration
}

// Share is the redirected part of the received bytes, 0 to 1.
func (e End) Share() float64 {
	if e.Received == 0 {
		return 0
	}
	return float64(e.Redirected) / float64(e.Received)
}

// Blocks reports whether the end waits inside receive calls, by the flags of its descriptors. It is wrong for
// programs that pass MSG_DONTWAIT on a descriptor without O_NONBLOCK: these get everything redirected.
func (e End) Blocks() bool { return e.Blocking > 0 && 2*e.Blocking >= e.Sockets && e.Share() < enough }

// newReport returns a report of this kernel, without cases.
func newReport() (*Report, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("read the kernel's release: %w", err)
	}
	return &Report{Kernel: unix.ByteSliceToString(name.Release[:]),
		Date: time.Now().UTC().Format(time.DateOnly)}, nil
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

// verdict prints a line for each case. It returns an error if a program has failed, if bytes were redirected
// although a hazard prevents acceleration, or if none were although no hazard does.
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
	return fmt.Sprintf("%s %s: %.0f %% of %d bytes, %d of %d sockets block, %v", e.Program, e.Version,
		100*e.Share(), e.Received,
		e.Blocking, e.Sockets, e.Reasons)
}
