// SPDX-License-Identifier: Apache-2.0

// Package explain explains why a connection is redirected or not. It lists the conditions of docs/DATAPATH.md
// in the order in which the programs check them, with the result of each, and with what would change the
// result of the one that decided.
//
// Callers gather the Facts. Only ReadSocket reads something from the system.
package explain

import (
	"cmp"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Verdict is the result of one condition.
type Verdict string

// The verdicts.
const (
	Passed     Verdict = "passed"
	Decided    Verdict = "decided"     // it sent the connection, or the message, to TCP
	NotReached Verdict = "not reached" // an earlier condition decided
	NotKnown   Verdict = "not known"
	NotAsked   Verdict = "not asked" // the programs do not check it with this configuration
)

// Stage is the time at which a condition is checked.
type Stage string

// The stages, in order.
const (
	StageNode       Stage = "node"       // before any connection
	StageConnection Stage = "connection" // once, when the connection is made
	StageMessage    Stage = "message"    // for each call of send
)

// Outcome is the path of the bytes, or the predicted path.
type Outcome string

// The outcomes.
const (
	Redirected Outcome = "redirect"
	ByTCP      Outcome = "tcp"
	Open       Outcome = "open"    // no known fact prevents redirection, but not all facts are known
	Unknown    Outcome = "unknown" // an end is in no network namespace of this node
)

// Condition is one question and its answer.
type Condition struct {
	Stage    Stage   `json:"stage" doc:"node; connection (checked once, when the connection is made); or message (checked for each call of send)"`
	Name     string  `json:"name" doc:"in the stage connection a result, in the stage message a reason, see METRICS.md"`
	Question string  `json:"question" doc:"the condition as a question; the answer yes lets the connection, or the message, pass"`
	Verdict  Verdict `json:"verdict" doc:"passed; decided: it sent the connection, or the message, to TCP; not reached: an earlier condition decided; not known; not asked"`
	Detail   string  `json:"detail" doc:"the facts behind the verdict; may be empty"`
	Change   string  `json:"change" doc:"what would change the answer; empty unless the verdict is decided"`
}

// Explanation is about one direction of a connection.
type Explanation struct {
	Outcome    Outcome     `json:"outcome" doc:"redirect; tcp; open: no known fact prevents redirection, but not all facts are known; unknown: an end is not on this node"`
	Answer     string      `json:"answer" doc:"the outcome and the condition that decided, in words"`
	Next       string      `json:"next" doc:"the path of the next message, if it differs from that of the last one; otherwise empty"`
	Risks      []string    `json:"risks" doc:"results of the socket API that may differ from TCP while the connection is redirected"`
	Conditions []Condition `json:"conditions" doc:"in the order in which the programs check them"`
}

// finding is the answer to one question that follows from the facts.
type finding struct {
	verdict Verdict // Passed, Decided, NotKnown or NotAsked
	detail  string
	change  string // in place of the question's own
}

func passed(format string, args ...any) finding {
	return finding{verdict: Passed, detail: fmt.Sprintf(format, args...)}
}

func decided(format string, args ...any) finding {
	return finding{verdict: Decided, detail: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) finding {
	return finding{verdict: NotKnown, detail: fmt.Sprintf(format, args...)}
}

func notAsked(format string, args ...any) finding {
	return finding{verdict: NotAsked, detail: fmt.Sprintf(format, args...)}
}

// question is one row of a table.
type question struct {
	name   string
	ask    string // the answer yes lets the connection, or the message, pass
	means  string // why TCP is used when the answer is no; a clause that follows "over TCP: "
	change string
	now    func(*Facts) finding // nil: only the BPF programs know the answer
}

func (q *question) answer(f *Facts) finding {
	if q.now == nil {
		return unknown("")
	}
	return q.now(f)
}

func (q *question) condition(stage Stage, found finding) Condition {
	c := Condition{Stage: stage, Name: q.name, Question: q.ask, Verdict: found.verdict, Detail: found.detail}
	if found.verdict == Decided {
		c.Change = q.change
		if found.change != "" {
			c.Change = found.change
		}
	}
	return c
}

// Explain answers all questions with what is known.
func Explain(f *Facts) *Explanation {
	e := explain(f)
	e.Risks = risks(f, e.Outcome)
	return e
}

func explain(f *Facts) *Explanation {
	e := &Explanation{Conditions: []Condition{}}
	var stopped *question
	if f.Flow == nil {
		stopped = e.predict(StageNode, f, nodeQuestions, nil)
		stopped = e.predict(StageConnection, f, resultQuestions(), stopped)
		stopped = e.predict(StageMessage, f, reasonQuestions(), stopped)
		e.sumUp(f, stopped)
		return e
	}
	for _, q := range nodeQuestions {
		found := q.answer(f)
		if found.verdict != Passed {
			// The present answer concerns later connections only. The kill switch is checked for each
			// message, too.
			found = passed("it was when the connection was made: the socket is in the sockhash")
		}
		e.add(q.condition(StageNode, found))
	}
	e.connection(f)
	e.message(f)
	return e
}

func (e *Explanation) add(c Condition) { e.Conditions = append(e.Conditions, c) }

// predict answers the questions for a future connection, and returns the first one that decides.
func (e *Explanation) predict(stage Stage, f *Facts, questions []*question, stopped *question) *question {
	for _, q := range questions {
		if stopped != nil {
			e.add(q.condition(stage, finding{verdict: NotReached}))
			continue
		}
		found := q.answer(f)
		e.add(q.condition(stage, found))
		if found.verdict == Decided {
			stopped = q
		}
	}
	return stopped
}

func (e *Explanation) sumUp(f *Facts, stopped *question) {
	switch {
	case stopped != nil:
		e.Outcome, e.Answer = ByTCP, "would be plain TCP: "+stopped.means
	case f.Socket != nil && f.Socket.Connected:
		e.Outcome = ByTCP
		e.Answer = "plain TCP: it is not in the sockhash, and what is known now does not say why. It was made " +
			"before its cgroup was attached or while sockmap was off, or its other end is not on this node"
	case f.Sender.Place == PlaceUnknown || f.Receiver.Place == PlaceUnknown:
		e.Outcome, e.Answer = Unknown, unknownEnd(f)
	default:
		e.Outcome, e.Answer = Open, "would be redirected, as far as can be known before it is made"
	}
}

// unknownEnd names the end that is in no network namespace of this node.
func unknownEnd(f *Facts) string {
	name := f.Receiver.Name
	if f.Sender.Place == PlaceUnknown {
		name = f.Sender.Name
	}
	return fmt.Sprintf("unknown: %s is in no network namespace that is known here. It is plain TCP if that is "+
		"another node or the outside; if it is a service address, name the pod behind it", name)
}

// connection adds the stage connection for a flow: it is in the sockhash, so the conditions have passed.
func (e *Explanation) connection(f *Facts) {
	for _, q := range resultQuestions() {
		found := passed("")
		if !f.Flow.Joined && (q.name == datapath.ResultRemote.String() ||
			q.name == datapath.ResultDenied.String() ||
			q.name == datapath.ResultAvoided.String() || q.name == datapath.ResultJoined.String()) {
			found = unknown("the other end has not joined so far")
		}
		e.add(q.condition(StageConnection, found))
	}
}

// message adds the stage message for a flow: why its last message used TCP, and what holds for the next one.
func (e *Explanation) message(f *Facts) {
	var last, next *question
	questions := reasonQuestions()
	for _, q := range questions {
		now := q.answer(f)
		if now.verdict == Decided && next == nil {
			next = q
		}
		found := now
		switch {
		case f.Flow.Mode == datapath.ModePending:
		case last != nil:
			found = finding{verdict: NotReached}
		case f.Flow.Mode == datapath.ModeTCP && q.name == f.Flow.Reason.String():
			last = q
			found = finding{verdict: Decided, detail: now.detail, change: now.change}
			if f.Flow.Left {
				found.change = cmp.Or(now.change, q.change) + "; then a new connection, as this one is plain TCP for good"
			}
		case now.verdict == NotAsked:
		default:
			found.verdict = Passed
			if now.verdict == Decided {
				found.detail = "when it last sent; now: " + now.detail
			}
		}
		e.add(q.condition(StageMessage, found))
	}
	e.conclude(f, last, next)
}

func (e *Explanation) conclude(f *Facts, last, next *question) {
	switch {
	case f.Flow.Mode == datapath.ModeRedirect:
		e.Outcome, e.Answer = Redirected, "redirected: its last message went from socket to socket"
	case f.Flow.Left && last != nil:
		e.Outcome, e.Answer = ByTCP, "plain TCP, out of the sockhash for good: "+last.means
	case f.Flow.Mode == datapath.ModeTCP && last != nil:
		e.Outcome, e.Answer = ByTCP, "over TCP: "+last.means
	case f.Flow.Mode == datapath.ModeTCP:
		e.Outcome, e.Answer = ByTCP, fmt.Sprintf("over TCP, for a reason that this program does not know: %v",
			f.Flow.Reason)
	case next != nil:
		e.Outcome, e.Answer = ByTCP, "has sent nothing yet; it would use TCP: "+next.means
	default:
		e.Outcome, e.Answer = Open, "has sent nothing yet; it would be redirected, as far as can be known before"
	}
	if next != nil && next != last && f.Flow.Mode != datapath.ModePending && !f.Flow.Left {
		e.Next = "the next message uses TCP: " + next.means
	}
}

// Decider returns the condition that decided, or nil.
func (e *Explanation) Decider() *Condition {
	for i := range e.Conditions {
		if e.Conditions[i].Verdict == Decided && !(e.Outcome == Redirected) {
			return &e.Conditions[i]
		}
	}
	return nil
}
