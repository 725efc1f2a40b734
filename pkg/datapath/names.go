// SPDX-License-Identifier: Apache-2.0

package datapath

import "fmt"

// Role says which end of a connection a socket is.
type Role uint8

// Mode says how the bytes that a socket sends travel right now.
type Mode uint8

// Reason says why they travel by TCP.
type Reason uint8

// Result says what became of a connection when it was made.
type Result uint8

// The values, as in bpf/abi.h.
const (
	RoleActive  = Role(bpfRoleROLE_ACTIVE)
	RolePassive = Role(bpfRoleROLE_PASSIVE)

	ModePending  = Mode(bpfModeMODE_PENDING)
	ModeRedirect = Mode(bpfModeMODE_REDIRECT)
	ModeTCP      = Mode(bpfModeMODE_TCP)
	// ModeLeft: the socket has left the sockhash for good, and is plain TCP. Its reason says why.
	ModeLeft = ModeTCP + 1

	ReasonNone            = Reason(bpfReasonREASON_NONE)
	ReasonNoPeer          = Reason(bpfReasonREASON_NO_PEER)
	ReasonUnread          = Reason(bpfReasonREASON_UNREAD)
	ReasonBacklogBytes    = Reason(bpfReasonREASON_BACKLOG_BYTES)
	ReasonBacklogMessages = Reason(bpfReasonREASON_BACKLOG_MESSAGES)
	ReasonRcvlowat        = Reason(bpfReasonREASON_RCVLOWAT)
	ReasonState           = Reason(bpfReasonREASON_STATE)
	ReasonULP             = Reason(bpfReasonREASON_ULP)
	ReasonDisabled        = Reason(bpfReasonREASON_DISABLED)
	ReasonPolicy          = Reason(bpfReasonREASON_POLICY)
	ReasonPeerLeft        = Reason(bpfReasonREASON_PEER_LEFT)
	ReasonLearning        = Reason(bpfReasonREASON_LEARNING)
	ReasonWaitall         = Reason(bpfReasonREASON_WAITALL)
	ReasonOOB             = Reason(bpfReasonREASON_OOB)
	ReasonInq             = Reason(bpfReasonREASON_INQ)
	ReasonZerocopy        = Reason(bpfReasonREASON_ZEROCOPY)
	ReasonBlocking        = Reason(bpfReasonREASON_BLOCKING)
	ReasonDiscard         = Reason(bpfReasonREASON_DISCARD)
	ReasonOption          = Reason(bpfReasonREASON_OPTION)
	ReasonContended       = Reason(bpfReasonREASON_CONTENDED)
	ReasonRefresh         = Reason(bpfReasonREASON_REFRESH)
	ReasonMemory          = Reason(bpfReasonREASON_MEMORY)
	ReasonShutdown        = Reason(bpfReasonREASON_SHUTDOWN)
	ReasonEarly           = Reason(bpfReasonREASON_EARLY)
	ReasonLeaving         = Reason(bpfReasonREASON_LEAVING)
	ReasonCorked          = Reason(bpfReasonREASON_CORKED)
	ReasonPages           = Reason(bpfReasonREASON_PAGES)
	ReasonSmall           = Reason(bpfReasonREASON_SMALL)
	ReasonSplice          = Reason(bpfReasonREASON_SPLICE)

	ResultJoined    = Result(bpfResultRESULT_JOINED)
	ResultRemote    = Result(bpfResultRESULT_REMOTE)
	ResultDenied    = Result(bpfResultRESULT_DENIED)
	ResultCollision = Result(bpfResultRESULT_COLLISION)
	ResultMapFull   = Result(bpfResultRESULT_MAP_FULL)
	ResultRepair    = Result(bpfResultRESULT_REPAIR)
	ResultMPTCP     = Result(bpfResultRESULT_MPTCP)
	ResultULP       = Result(bpfResultRESULT_ULP)
	ResultError     = Result(bpfResultRESULT_ERROR)
	ResultOption    = Result(bpfResultRESULT_OPTION)
	ResultAvoided   = Result(bpfResultRESULT_AVOIDED)
	ResultBlocking  = Result(bpfResultRESULT_BLOCKING)
	ResultShort     = Result(bpfResultRESULT_SHORT)
	ResultShare     = Result(bpfResultRESULT_SHARE)
	ResultHelper    = Result(bpfResultRESULT_HELPER)
	ResultForeign   = Result(bpfResultRESULT_FOREIGN)
	ResultStream    = Result(bpfResultRESULT_STREAM)
)

var (
	roleNames = [bpfRoleROLE_MAX]string{
		bpfRoleROLE_ACTIVE:  "active",
		bpfRoleROLE_PASSIVE: "passive",
	}
	modeNames = [...]string{
		bpfModeMODE_PENDING:  "pending",
		bpfModeMODE_REDIRECT: "redirect",
		bpfModeMODE_TCP:      "tcp",
		bpfMode(ModeLeft):    "left",
	}
	reasonNames = [bpfReasonREASON_MAX]string{
		bpfReasonREASON_NONE:             "",
		bpfReasonREASON_NO_PEER:          "no-peer",
		bpfReasonREASON_UNREAD:           "unread",
		bpfReasonREASON_BACKLOG_BYTES:    "backlog-bytes",
		bpfReasonREASON_BACKLOG_MESSAGES: "backlog-messages",
		bpfReasonREASON_RCVLOWAT:         "rcvlowat",
		bpfReasonREASON_STATE:            "state",
		bpfReasonREASON_ULP:              "ulp",
		bpfReasonREASON_DISABLED:         "disabled",
		bpfReasonREASON_POLICY:           "policy",
		bpfReasonREASON_PEER_LEFT:        "peer-left",
		bpfReasonREASON_LEARNING:         "learning",
		bpfReasonREASON_WAITALL:          "waitall",
		bpfReasonREASON_OOB:              "oob",
		bpfReasonREASON_INQ:              "inq",
		bpfReasonREASON_ZEROCOPY:         "zerocopy",
		bpfReasonREASON_BLOCKING:         "blocking",
		bpfReasonREASON_DISCARD:          "discard",
		bpfReasonREASON_OPTION:           "option",
		bpfReasonREASON_CONTENDED:        "contended",
		bpfReasonREASON_REFRESH:          "refresh",
		bpfReasonREASON_MEMORY:           "memory",
		bpfReasonREASON_SHUTDOWN:         "shutdown",
		bpfReasonREASON_EARLY:            "early",
		bpfReasonREASON_LEAVING:          "leaving",
		bpfReasonREASON_CORKED:           "corked",
		bpfReasonREASON_PAGES:            "pages",
		bpfReasonREASON_SMALL:            "small",
		bpfReasonREASON_SPLICE:           "splice",
	}
	resultNames = [bpfResultRESULT_MAX]string{
		bpfResultRESULT_JOINED:    "joined",
		bpfResultRESULT_REMOTE:    "remote",
		bpfResultRESULT_DENIED:    "denied",
		bpfResultRESULT_COLLISION: "collision",
		bpfResultRESULT_MAP_FULL:  "map-full",
		bpfResultRESULT_REPAIR:    "repair",
		bpfResultRESULT_MPTCP:     "mptcp",
		bpfResultRESULT_ULP:       "ulp",
		bpfResultRESULT_ERROR:     "error",
		bpfResultRESULT_OPTION:    "option",
		bpfResultRESULT_AVOIDED:   "avoided",
		bpfResultRESULT_BLOCKING:  "blocking",
		bpfResultRESULT_SHORT:     "short",
		bpfResultRESULT_SHARE:     "share",
		bpfResultRESULT_HELPER:    "helper",
		bpfResultRESULT_FOREIGN:   "foreign",
		bpfResultRESULT_STREAM:    "stream",
	}
)

func nameOf[T ~uint8](names []string, value T, kind string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%s(%d)", kind, value)
}

func (r Role) String() string   { return nameOf(roleNames[:], r, "role") }
func (m Mode) String() string   { return nameOf(modeNames[:], m, "mode") }
func (r Reason) String() string { return nameOf(reasonNames[:], r, "reason") }
func (r Result) String() string { return nameOf(resultNames[:], r, "result") }

// MarshalText makes the names, not the numbers, stand in JSON.
func (r Role) MarshalText() ([]byte, error)   { return []byte(r.String()), nil }
func (m Mode) MarshalText() ([]byte, error)   { return []byte(m.String()), nil }
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Roles lists every role.
func Roles() []Role { return upTo(Role(0), Role(bpfRoleROLE_MAX)) }

// Modes lists every mode.
func Modes() []Mode { return upTo(Mode(0), Mode(len(modeNames))) }

// Reasons lists every reason but ReasonNone.
func Reasons() []Reason { return upTo(ReasonNone+1, Reason(bpfReasonREASON_MAX)) }

// Results lists every result.
func Results() []Result { return upTo(Result(0), Result(bpfResultRESULT_MAX)) }

func upTo[T ~uint8](first, end T) []T {
	all := make([]T, 0, end-first)
	for v := first; v < end; v++ {
		all = append(all, v)
	}
	return all
}
