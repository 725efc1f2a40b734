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

// The values, as in bpf/abi.h.
const (
	RoleActive  = Role(bpf.SockmapRoleROLE_ACTIVE)
	RolePassive = Role(bpf.SockmapRoleROLE_PASSIVE)

	ModePending  = Mode(bpf.SockmapModeMODE_PENDING)
	ModeRedirect = Mode(bpf.SockmapModeMODE_REDIRECT)
	ModeTCP      = Mode(bpf.SockmapModeMODE_TCP)
	// ModeLeft: the socket has left the sockhash for good, and is plain TCP. Its reason says why.
	ModeLeft = ModeTCP + 1

	ReasonNone            = Reason(bpf.SockmapReasonREASON_NONE)
	ReasonNoPeer          = Reason(bpf.SockmapReasonREASON_NO_PEER)
	ReasonUnread          = Reason(bpf.SockmapReasonREASON_UNREAD)
	ReasonBacklogBytes    = Reason(bpf.SockmapReasonREASON_BACKLOG_BYTES)
	ReasonBacklogMessages = Reason(bpf.SockmapReasonREASON_BACKLOG_MESSAGES)
	ReasonRcvlowat        = Reason(bpf.SockmapReasonREASON_RCVLOWAT)
	ReasonState           = Reason(bpf.SockmapReasonREASON_STATE)
	ReasonULP             = Reason(bpf.SockmapReasonREASON_ULP)
	ReasonDisabled        = Reason(bpf.SockmapReasonREASON_DISABLED)
	ReasonPolicy          = Reason(bpf.SockmapReasonREASON_POLICY)
	ReasonPeerLeft        = Reason(bpf.SockmapReasonREASON_PEER_LEFT)
	ReasonLearning        = Reason(bpf.SockmapReasonREASON_LEARNING)
	ReasonWaitall         = Reason(bpf.SockmapReasonREASON_WAITALL)
	ReasonOOB             = Reason(bpf.SockmapReasonREASON_OOB)
	ReasonInq             = Reason(bpf.SockmapReasonREASON_INQ)
	ReasonZerocopy        = Reason(bpf.SockmapReasonREASON_ZEROCOPY)
	ReasonBlocking        = Reason(bpf.SockmapReasonREASON_BLOCKING)
	ReasonDiscard         = Reason(bpf.SockmapReasonREASON_DISCARD)
	ReasonOption          = Reason(bpf.SockmapReasonREASON_OPTION)
	ReasonContended       = Reason(bpf.SockmapReasonREASON_CONTENDED)
	ReasonRefresh         = Reason(bpf.SockmapReasonREASON_REFRESH)
	ReasonMemory          = Reason(bpf.SockmapReasonREASON_MEMORY)
	ReasonShutdown        = Reason(bpf.SockmapReasonREASON_SHUTDOWN)
	ReasonEarly           = Reason(bpf.SockmapReasonREASON_EARLY)
	ReasonLeaving         = Reason(bpf.SockmapReasonREASON_LEAVING)
	ReasonCorked          = Reason(bpf.SockmapReasonREASON_CORKED)
	ReasonPages           = Reason(bpf.SockmapReasonREASON_PAGES)
	ReasonSmall           = Reason(bpf.SockmapReasonREASON_SMALL)
	ReasonSplice          = Reason(bpf.SockmapReasonREASON_SPLICE)

	ResultJoined    = Result(bpf.SockmapResultRESULT_JOINED)
	ResultRemote    = Result(bpf.SockmapResultRESULT_REMOTE)
	ResultDenied    = Result(bpf.SockmapResultRESULT_DENIED)
	ResultCollision = Result(bpf.SockmapResultRESULT_COLLISION)
	ResultMapFull   = Result(bpf.SockmapResultRESULT_MAP_FULL)
	ResultRepair    = Result(bpf.SockmapResultRESULT_REPAIR)
	ResultMPTCP     = Result(bpf.SockmapResultRESULT_MPTCP)
	ResultULP       = Result(bpf.SockmapResultRESULT_ULP)
	ResultError     = Result(bpf.SockmapResultRESULT_ERROR)
	ResultOption    = Result(bpf.SockmapResultRESULT_OPTION)
	ResultAvoided   = Result(bpf.SockmapResultRESULT_AVOIDED)
	ResultBlocking  = Result(bpf.SockmapResultRESULT_BLOCKING)
	ResultShort     = Result(bpf.SockmapResultRESULT_SHORT)
	ResultShare     = Result(bpf.SockmapResultRESULT_SHARE)
	ResultHelper    = Result(bpf.SockmapResultRESULT_HELPER)
	ResultForeign   = Result(bpf.SockmapResultRESULT_FOREIGN)
	ResultStream    = Result(bpf.SockmapResultRESULT_STREAM)
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
