// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Role is the end of a connection that a socket is.
type Role uint8

// Mode is how the bytes that a socket sends travel now.
type Mode uint8

// Reason is why they use TCP.
type Reason uint8

// Result is the result of pairing at the handshake.
type Result uint8

// The values, as in bpf/abi.h. Those of Reason are in reasons.go, those of Result in results.go.
const (
	RoleActive  = Role(bpf.SockmapRoleROLE_ACTIVE)
	RolePassive = Role(bpf.SockmapRoleROLE_PASSIVE)

	ModePending  = Mode(bpf.SockmapModeMODE_PENDING)
	ModeRedirect = Mode(bpf.SockmapModeMODE_REDIRECT)
	ModeTCP      = Mode(bpf.SockmapModeMODE_TCP)
	// ModeLeft: the socket has left the sockhash for good, and is plain TCP. Its reason says why.
	ModeLeft = ModeTCP + 1
)

var (
	roleNames = [bpf.SockmapRoleROLE_MAX]string{
		bpf.SockmapRoleROLE_ACTIVE:  "active",
		bpf.SockmapRoleROLE_PASSIVE: "passive",
	}
	modeNames = [...]string{
		bpf.SockmapModeMODE_PENDING:  "pending",
		bpf.SockmapModeMODE_REDIRECT: "redirect",
		bpf.SockmapModeMODE_TCP:      "tcp",
		bpf.SockmapMode(ModeLeft):    "left",
	}
	reasonNames = namesByNumber(ReasonTable[:], bpf.SockmapReasonREASON_MAX)
	resultNames = namesByNumber(ResultTable[:], bpf.SockmapResultRESULT_MAX)
)

func namesByNumber[Number Reason | Result, Max ~uint32](rows []Condition[Number], end Max) []string {
	names := make([]string, end)
	for _, row := range rows {
		names[row.Number] = row.Name
	}
	return names
}

func nameOf[T ~uint8](names []string, value T, kind string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%s(%d)", kind, value)
}

func (r Role) String() string   { return nameOf(roleNames[:], r, "role") }
func (m Mode) String() string   { return nameOf(modeNames[:], m, "mode") }
func (r Reason) String() string { return nameOf(reasonNames, r, "reason") }
func (r Result) String() string { return nameOf(resultNames, r, "result") }

// MarshalText puts names instead of numbers into JSON.
func (r Role) MarshalText() ([]byte, error)   { return []byte(r.String()), nil }
func (m Mode) MarshalText() ([]byte, error)   { return []byte(m.String()), nil }
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Roles lists every role.
func Roles() []Role { return upTo(Role(0), Role(bpf.SockmapRoleROLE_MAX)) }

// Modes lists every mode.
func Modes() []Mode { return upTo(Mode(0), Mode(len(modeNames))) }

// Reasons lists every reason but ReasonNone.
func Reasons() []Reason { return upTo(ReasonNone+1, Reason(bpf.SockmapReasonREASON_MAX)) }

// Results lists every result.
func Results() []Result { return upTo(Result(0), Result(bpf.SockmapResultRESULT_MAX)) }

func upTo[T ~uint8](first, end T) []T {
	all := make([]T, 0, end-first)
	for v := first; v < end; v++ {
		all = append(all, v)
	}
	return all
}
