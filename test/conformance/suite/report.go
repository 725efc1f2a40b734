// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// A Verdict is the outcome of a comparison.
type Verdict string

// Unsteady is a case whose two runs on plain TCP differ. Broken is a case that could not be run.
const (
	Same     Verdict = "same"
	Differs  Verdict = "differs"
	Unsteady Verdict = "unsteady"
	Broken   Verdict = "broken"
)

// A Report is one run of the suite at one site.
type Report struct {
	Kernel string   `json:"kernel"`
	Site   string   `json:"place"`
	Guards []string `json:"guards"` // guards that ran
	// Accepted: hazards of the kernel were accepted. Otherwise the shipped default decided whether to
	// accelerate.
	Accepted bool      `json:"acceptHazards"`
	Control  bool      `json:"control,omitempty"` // both sides were plain TCP
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	Cases    []Result  `json:"cases"`
}

// A Result is the result of one case.
type Result struct {
	Name        string        `json:"name"`
	Verdict     Verdict       `json:"verdict"`
	Error       string        `json:"error,omitempty"`
	Differences []Difference  `json:"differences,omitempty"`
	Plain       []Observation `json:"plain"`
	Accelerated []Observation `json:"accelerated"`
	// Hangs and Loses classify the differences.
	Hangs bool `json:"hangs,omitempty"`
	Loses bool `json:"loses,omitempty"`
	// Carried are the bytes of the accelerated run.
	Carried place.Bytes `json:"carried"`
	Bulk    bool        `json:"bulk,omitempty"`
	// Blocking: its calls waited in the kernel.
	Blocking bool `json:"blocking,omitempty"`
	// Unengaged: nothing was redirected although it should have been.
	Unengaged bool   `json:"unengaged,omitempty"`
	Idle      string `json:"idle,omitempty"`
	Yields    string `json:"yields,omitempty"`
	// Times are those of the plain and of the accelerated run.
	PlainMillis       int64 `json:"plainMilliseconds"`
	AcceleratedMillis int64 `json:"acceleratedMilliseconds"`

	// These fields come from the table of known differences. ReasonName is short. Refusal: a call is refused,
	// and programs have a fallback.
	Effect     string `json:"effect,omitempty"`
	Reason     string `json:"reason,omitempty"`
	ReasonName string `json:"reasonName,omitempty"`
	Refusal    bool   `json:"refusal,omitempty"`
}

// Redirected is the share of the bytes that were redirected, 0 to 1.
func (r Result) Redirected() float64 {
	all := r.Carried.Redirected + r.Carried.TCP
	if all == 0 {
		return 0
	}
	return float64(r.Carried.Redirected) / float64(all)
}

// Bulk sums the bytes of bulk cases.
func (r *Report) Bulk() (sum place.Bytes) {
	for _, c := range r.Cases {
		if c.Bulk {
			sum.Redirected += c.Carried.Redirected
			sum.TCP += c.Carried.TCP
		}
	}
	return sum
}

// ReadReport reads what WriteReport wrote.
func ReadReport(r io.Reader) (*Report, error) {
	var report Report
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return &report, nil
}

// WriteReport writes the report as JSON.
func (r *Report) WriteReport(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Count counts the cases with a verdict.
func (r *Report) Count(v Verdict) (n int) {
	for _, c := range r.Cases {
		if c.Verdict == v {
			n++
		}
	}
	return n
}
