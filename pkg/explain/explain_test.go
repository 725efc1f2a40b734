// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

func TestEveryNodeQuestionIsExplained(t *testing.T) {
	for _, q := range nodeQuestions {
		if q.ask == "" || q.means == "" || q.change == "" || !strings.HasSuffix(q.ask, "?") {
			t.Errorf("%s is not explained: %+v", q.name, *q)
		}
	}
}

func TestDataPathDocumentHasTheQuestionsInTheirOrder(t *testing.T) {
	const path = "../../docs/DATAPATH.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := "| # | reason | question |\n|---|---|---|\n"
	for i, q := range reasonQuestions() {
		text += fmt.Sprintf("| %d | `%s` | %s |\n", i, q.name, q.ask)
	}
	section := marked.Section{Name: "reasons", Command: "go test ./pkg/explain -update"}
	whole, err := section.Replace(string(doc), text)
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, path, whole)
}

// exampleFacts are of two accelerated containers, before there is a connection.
func exampleFacts() *Facts {
	end := func(name string, cookie uint64) End {
		return End{
			Name: name, Place: PlaceHere, NetNS: cookie, Recorded: true, Linked: Passed, Link: "attached",
			Registered: &datapath.Registered{Policy: datapath.Policy{Accelerate: true, Group: 7}},
		}
	}
	f := &Facts{
		Config: datapath.Config{Settings: datapath.Settings{MaxSockets: 100, MaxBacklogBytes: 1000}},
		Sender: end("shop/web-0", 1), Receiver: end("shop/db-0", 2), Port: 80,
	}
	f.Passive = &f.Receiver
	return f
}

func liveFacts(mode datapath.Mode, reason datapath.Reason) *Facts {
	f := exampleFacts()
	f.Flow = &datapath.Flow{Mode: mode, Reason: reason, Joined: true, State: established}
	f.Peer = &datapath.Flow{Joined: true, State: established}
	return f
}

// verdictOf finds one condition, of any stage when it is "".
func verdictOf(e *Explanation, stage Stage, name string) Verdict {
	for _, c := range e.Conditions {
		if c.Stage == stage && c.Name == name {
			return c.Verdict
		}
	}
	return ""
}

// unasked are the reasons that cannot be found with liveFacts: no guard runs, and natRefreshSeconds is 0.
var unasked = []datapath.Reason{
	datapath.ReasonOOB, datapath.ReasonWaitall, datapath.ReasonBlocking, datapath.ReasonDiscard,
	datapath.ReasonSplice, datapath.ReasonLearning,
	datapath.ReasonRefresh,
}

func TestEachReasonDecidesInTheOrderOfTheTable(t *testing.T) {
	for i, row := range datapath.ReasonTable {
		r := row.Number
		e := Explain(liveFacts(datapath.ModeTCP, r))
		if e.Outcome != ByTCP || e.Answer != "over TCP: "+row.Meaning {
			t.Errorf("%v: %s, %q", r, e.Outcome, e.Answer)
		}
		if d := e.Decider(); d == nil || d.Name != r.String() || d.Change == "" {
			t.Errorf("%v: decided by %+v", r, d)
		}
		for j, row := range datapath.ReasonTable {
			other := row.Number
			want := map[bool]Verdict{true: Passed, false: NotReached}[j < i]
			if j < i && slices.Contains(unasked, other) {
				want = NotAsked
			}
			if got := verdictOf(e, StageMessage, other.String()); i != j && got != want {
				t.Errorf("%v decided: %v is %s, want %s", r, other, got, want)
			}
		}
	}
}

func TestRedirectedFlowsHavePassedAllConditions(t *testing.T) {
	e := Explain(liveFacts(datapath.ModeRedirect, datapath.ReasonNone))
	for _, c := range e.Conditions {
		if c.Verdict != Passed && c.Verdict != NotAsked || c.Change != "" {
			t.Errorf("%+v", c)
		}
	}
	if e.Outcome != Redirected || e.Next != "" || e.Decider() != nil {
		t.Errorf("%+v", e)
	}
	f := liveFacts(datapath.ModeRedirect, datapath.ReasonNone)
	f.Config.Disabled = true
	if e := Explain(f); e.Outcome != Redirected || !strings.Contains(e.Next, "the kill switch is on") {
		t.Errorf("the switch was turned since it last sent: %+v", e)
	}
}

func TestLiveFlowOnAHelperPortIsDecidedByPolicy(t *testing.T) {
	f := liveFacts(datapath.ModeTCP, datapath.ReasonPolicy)
	f.HelperPorts = []datapath.PortRange{{First: 80, Last: 80}}
	d := Explain(f).Decider()
	if d == nil || d.Name != "policy" || !strings.Contains(d.Detail, "conntrack helper") ||
		!strings.Contains(d.Change, "conntrackHelpers") {
		t.Errorf("decided by %+v", d)
	}
}

func TestADeletedEndPermitsNothing(t *testing.T) {
	for _, tt := range []struct {
		name           string
		known, gone    bool
		peer, decisive bool
		detail         string
	}{
		{name: "the sender's", known: true, gone: true, decisive: true,
			detail: "shop/web-0 took part and was deleted"},
		{name: "the receiver's", known: true, gone: true, peer: true, decisive: true,
			detail: "shop/db-0 took part and was deleted"},
		{name: "attached with sockmapctl attach", gone: true},
		{name: "registered", known: true},
	} {
		f := liveFacts(datapath.ModeRedirect, datapath.ReasonNone)
		end, known := &f.Sender, &f.Flow.Known
		if tt.peer {
			end, known = &f.Receiver, &f.Flow.PeerKnown
		}
		*known = tt.known
		if tt.gone {
			end.Registered = nil
		}
		e := Explain(f)
		if next := strings.Contains(e.Next, "a policy was changed"); next != tt.decisive {
			t.Errorf("%s: next: %q", tt.name, e.Next)
		}
		f.Flow.Mode, f.Flow.Reason = datapath.ModeTCP, datapath.ReasonPolicy
		if d := Explain(f).Decider(); d == nil || d.Name != "policy" || !strings.Contains(d.Detail, tt.detail) ||
			d.Change == "" {
			t.Errorf("%s: decided by %+v, want %q", tt.name, d, tt.detail)
		}
	}
}

func TestConditionsThatDoNotApplyAreNotAsked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   Verdict
	}{
		{"refresh", func(*Facts) {}, NotAsked},
		{"waitall", func(*Facts) {}, NotAsked},
		{"waitall", func(f *Facts) { f.Config.Learn = true }, NotKnown},
		{"refresh", func(f *Facts) { f.Config.NATRefreshSeconds = 60 }, NotKnown},
		{"early", func(f *Facts) { f.Config.Blocking, f.Flow.Role = true, datapath.RolePassive }, NotAsked},
		{"early", func(f *Facts) { f.Flow.Role = datapath.RoleActive }, Passed},
		{"early", func(f *Facts) { f.Flow.Role = datapath.RolePassive }, NotKnown},
	} {
		f := liveFacts(datapath.ModePending, datapath.ReasonNone)
		tt.change(f)
		if got := verdictOf(Explain(f), StageMessage, tt.name); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.name, got, tt.want)
		}
	}
}

// conditions are changes of exampleFacts, each with the condition that then decides.
var conditions = []struct {
	name    string
	change  func(f *Facts)
	decider string // empty: none
	detail  string
}{
	{"all is in place", func(f *Facts) {}, "", ""},
	{"not loaded", func(f *Facts) { f.Problem = "sockmap is not loaded" }, "loaded", "not loaded"},
	{"switched off", func(f *Facts) { f.Config.Disabled = true }, "switch", "sockmapctl disable"},
	{"hazards", func(f *Facts) {
		f.Severe, f.Receiver.Registered, f.Receiver.Declined = []string{"splice"}, nil, "in whatever words"
		f.Receiver.Why = decline.Hazards
	}, "hazards", "shop/db-0"},
	{"accepted hazards", func(f *Facts) { f.Severe = []string{"splice"} }, "", ""},
	{"opted out", func(f *Facts) {
		f.Receiver.Registered.Accelerate, f.Receiver.Declined = false, "annotation sockmap-cni/accelerate is false"
	}, "registered", "annotation"},
	{"never added", func(f *Facts) { f.Sender.Registered, f.Sender.Linked = nil, Decided }, "registered",
		"never called"},
	{"link gone", func(f *Facts) { f.Sender.Linked, f.Sender.Link = Decided, "the link is gone" }, "link",
		"the link is gone"},
	{"sockhash full", func(f *Facts) { f.Sockets = 100 }, "map-full", "100 sockets of 100"},
	{"peers pod", func(f *Facts) { f.Receiver.Registered.Peers = datapath.PeersPod }, "denied",
		`"peers": "pod"`},
	{"peers pod within one", func(f *Facts) {
		f.Receiver.Registered.Peers, f.Receiver.NetNS = datapath.PeersPod, 1
	}, "", ""},
	{"peers namespace", func(f *Facts) {
		f.Sender.Registered.Peers, f.Receiver.Registered.Group = datapath.PeersNamespace, 8
	}, "denied", `"peers": "namespace"`},
	{"peers namespace of one", func(f *Facts) { f.Sender.Registered.Peers = datapath.PeersNamespace }, "", ""},
	{"switched off", func(f *Facts) {
		f.Receiver.Registered.Accelerate, f.Receiver.Why = false, decline.SwitchedOff
		f.Receiver.Declined = "namespace shop was switched off with sockmapctl disable"
	}, "registered", "shop/db-0 is kept on TCP: namespace shop was switched off with sockmapctl disable"},
	{"port excluded", func(f *Facts) {
		f.Sender.Registered.Exclude = []datapath.PortRange{{First: 70, Last: 90}}
	}, "denied", "port 80 is excluded for shop/web-0: 70-90"},
	{"port not included", func(f *Facts) {
		f.Receiver.Registered.Include = []datapath.PortRange{{First: 443, Last: 443}}
	}, "denied", "port 80 is not in ports.include of shop/db-0: 443"},
	{"avoided", func(f *Facts) {
		f.Avoided = &datapath.Avoided{Port: 80, Why: []datapath.Reason{datapath.ReasonBlocking},
			Left: 93 * time.Second}
	}, "avoided", "port 80 is avoided for another 1m33s: blocking"},
	{"avoided by a client", func(f *Facts) {
		f.Avoided = &datapath.Avoided{
			Port: 80, Destination: netip.MustParseAddrPort("10.0.0.7:80"), Why: []datapath.Reason{datapath.ReasonOOB},
			Left: time.Minute,
		}
	}, "avoided", "the destination 10.0.0.7:80 is avoided for another 1m0s: oob"},
	{"share", func(f *Facts) {
		f.Sockets, f.Shares = 51, map[uint64]int{f.Sender.NetNS: 26, f.Receiver.NetNS: 25}
	}, "share", "has 26 of 51 sockets in a sockhash of 100"},
	{"share without an entry", func(f *Facts) { f.Sockets, f.Shares = 51, map[uint64]int{0: 26} }, "share",
		"26 of 51"},
	{"share while there is room", func(f *Facts) { f.Sockets, f.Shares = 50, map[uint64]int{0: 50} }, "", ""},
	{"conntrack helper", func(f *Facts) {
		f.HelperPorts = []datapath.PortRange{{First: 21, Last: 21}, {First: 70, Last: 90}}
	}, "helper", "port 80 is among the ports of helpers: 21, 70-90"},
	{"conntrack helper of other ports", func(f *Facts) {
		f.HelperPorts = []datapath.PortRange{{First: 21, Last: 21}}
	}, "", ""},
	{"foreign", func(f *Facts) { f.Receiver.Registered.Foreign = true }, "foreign",
		"at the cgroup of shop/db-0"},
	{"option", func(f *Facts) { f.Socket = &Socket{ZeroCopy: true} }, "option", "SO_ZEROCOPY"},
	{"kTLS", func(f *Facts) { f.Socket = &Socket{ULP: "tls"} }, "ulp", "tls"},
	{"blocking client", func(f *Facts) { f.Config.Blocking, f.Socket = true, &Socket{} }, "blocking",
		"O_NONBLOCK"},
}

func TestPolicyDecidesBeforeTheConnectionExists(t *testing.T) {
	for _, tt := range conditions {
		f := exampleFacts()
		tt.change(f)
		e := Explain(f)
		d := e.Decider()
		switch {
		case tt.decider == "" && (d != nil || e.Outcome != Open):
			t.Errorf("%s: %s by %+v", tt.name, e.Outcome, d)
		case tt.decider != "" && (d == nil || d.Name != tt.decider || !strings.Contains(d.Detail, tt.detail) ||
			d.Change == "" || e.Outcome != ByTCP):
			t.Errorf("%s: %s by %+v, want %s", tt.name, e.Outcome, d, tt.decider)
		}
		seen := false
		for _, c := range e.Conditions {
			if seen && c.Verdict != NotReached {
				t.Errorf("%s: %s is %s behind what decided", tt.name, c.Name, c.Verdict)
			}
			seen = seen || c.Verdict == Decided
		}
	}
}

func TestUnknownConditionsAreNotPassed(t *testing.T) {
	f := exampleFacts()
	f.Receiver = End{Name: "10.9.9.9", Linked: NotKnown}
	f.Port = 0
	e := Explain(f)
	for _, name := range []string{"remote", "denied", "avoided"} {
		if got := verdictOf(e, StageConnection, name); got != NotKnown {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got := verdictOf(e, StageNode, "registered"); got != NotKnown || e.Decider() != nil {
		t.Errorf("registered is %s, decided by %+v", got, e.Decider())
	}
	waiting := liveFacts(datapath.ModePending, datapath.ReasonNone)
	waiting.Flow.Joined = false
	e = Explain(waiting)
	if verdictOf(e, StageConnection, "joined") == Passed {
		t.Error("no socket has joined")
	}
	if verdictOf(e, StageMessage, "no-peer") != Decided {
		t.Errorf("no-peer is %s", verdictOf(e, StageMessage, "no-peer"))
	}
}

func TestOutcomeIsUnknownIfAnEndIsUnknown(t *testing.T) {
	f := exampleFacts()
	f.Receiver = End{Name: "10.9.9.9", Linked: NotKnown}
	e := Explain(f)
	if e.Outcome != Unknown || !strings.HasPrefix(e.Answer, "unknown: 10.9.9.9 ") || len(e.Risks) != 0 {
		t.Errorf("%s, %q, risks %q", e.Outcome, e.Answer, e.Risks)
	}
}

func TestRisksOfARedirectedConnection(t *testing.T) {
	const unobserved = "no guard observes readers here"
	for _, tt := range []struct {
		name   string
		change func(f *Facts)
		want   []string // beginnings
	}{
		{"guards run", func(f *Facts) {}, nil},
		{"no observer", func(f *Facts) { f.Config.Learn = false }, []string{unobserved}},
		{"an open hazard", func(f *Facts) { f.Severe = []string{"splice"} },
			[]string{"hazard splice is open: splice(2)"}},
		{"a reader of which nothing is known", func(f *Facts) { f.Severe = []string{eagain} },
			[]string{"hazard eagain is open: "}},
		{"a blocking reader", func(f *Facts) {
			f.Severe, f.Reader = []string{eagain}, &Socket{RcvLowat: 1, PeekOff: -1}
		}, []string{"hazard eagain is open, and the reader's socket is blocking: "}},
		{"a reader that polls", func(f *Facts) {
			f.Severe, f.Reader = []string{eagain}, &Socket{RcvLowat: 1, PeekOff: -1, NonBlocking: true}
		}, nil},
		{"over TCP", func(f *Facts) { f.Severe, f.Flow.Mode = []string{"splice"}, datapath.ModeTCP }, nil},
	} {
		f := liveFacts(datapath.ModeRedirect, datapath.ReasonNone)
		f.Config.Learn = true
		tt.change(f)
		got := Explain(f).Risks
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q", tt.name, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], tt.want[i])
			}
		}
	}
}
