// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// End is one end of a subject.
type End struct {
	Owner          // empty: not known
	NetNS   uint64 // cookie; 0: not known
	Address netip.Addr
}

// Subject is the input of a filter: a flow, a message, or an attachment. Fields that it does not have stay
// zero.
type Subject struct {
	Ends               [2]End // an attachment has the first only
	Port               uint16 // of the server
	Mode, Reason, Role string
}

// Aspect is a property that a filter tests. Commands offer the flags of the aspects that their subjects have.
type Aspect uint8

// The aspects.
const (
	ByOwner   Aspect = 1 << iota // pod, namespace and network namespace of an end
	ByAddress                    // IP address of an end
	ByPort                       // port of the server
	ByState                      // mode, reason and role of a socket
)

// TwoEnds reports whether the subjects have a peer: flows and messages have one, and only these have
// addresses.
func (a Aspect) TwoEnds() bool { return a&ByAddress != 0 }

// Field is one flag of a filter.
type Field struct {
	Name, Short string
	Usage       string // for subjects with two ends
	Aspect      Aspect
	Words       func() []string // values for completion; nil: depends on the node

	accepts string // for errors; empty: one of Words
	end     func(value string) (func(*End) bool, error)
	subject func(value string) (func(*Subject) bool, error)
}

// Fields are all flags of filters. To add a flag to every command whose subjects have its aspect, add a line
// here.
var Fields = []Field{
	{Name: "pod", Usage: "`PODS` of either end: NAME or NAMESPACE/NAME", Aspect: ByOwner,
		accepts: "a name, or NAMESPACE/NAME", end: parsePod},
	{Name: "namespace", Short: "n", Usage: "`NAMESPACES` of pods of either end; default: all",
		Aspect: ByOwner, accepts: "a name of a namespace",
		end: parseNamespace},
	{Name: "netns", Usage: "`NETNS` of either end: cookies as flows -o wide shows them, or paths",
		Aspect:  ByOwner,
		accepts: "a netns cookie (see flows -o wide), or the path of a network namespace", end: parseNetNS},
	{Name: "address", Usage: "`ADDRESSES` of either end, or prefixes such as 10.1.0.0/16", Aspect: ByAddress,
		accepts: "an IP address, or a prefix such as 10.1.0.0/16", subject: parseAddress},
	{Name: "port", Usage: "`PORTS` of the server, or ranges such as 8000-8100", Aspect: ByPort,
		accepts: "a port, or a range of ports, from 1 to 65535", subject: parsePort},
	{Name: "mode", Usage: "`MODES`: " + term.OrList(ModeNames()), Aspect: ByState, Words: ModeNames,
		subject: parseWord(ModeNames, func(s *Subject) string { return s.Mode })},
	{Name: "reason", Usage: "`REASONS` for TCP, see METRICS.md", Aspect: ByState, Words: ReasonNames,
		subject: parseWord(ReasonNames, func(s *Subject) string { return s.Reason })},
	{Name: "role", Usage: "`ROLES`: " + term.OrList(RoleNames()), Aspect: ByState, Words: RoleNames,
		subject: parseWord(RoleNames, func(s *Subject) string { return s.Role })},
}

const ofEitherEnd = " of either end"

// UsageFor is the usage for subjects with these aspects.
func (f *Field) UsageFor(aspects Aspect) string {
	if aspects.TwoEnds() {
		return f.Usage
	}
	return strings.Replace(f.Usage, ofEitherEnd, "", 1)
}

var errValue = errors.New("not accepted")

func parsePod(text string) (func(*End) bool, error) {
	namespace, name, both := strings.Cut(text, "/")
	if !both {
		namespace, name = "", text
	}
	if name == "" || both && namespace == "" || strings.Contains(name, "/") {
		return nil, errValue
	}
	return func(e *End) bool { return e.Pod == name && (!both || e.Namespace == namespace) }, nil
}

func parseNamespace(text string) (func(*End) bool, error) {
	if text == "" || strings.Contains(text, "/") {
		return nil, errValue
	}
	return func(e *End) bool { return e.Namespace == text }, nil
}

func parseNetNS(text string) (func(*End) bool, error) {
	if strings.HasPrefix(text, "/") {
		id, err := netns.Identify(text)
		if err != nil {
			return nil, err
		}
		text = strconv.FormatUint(id.Cookie, 10)
	}
	cookie, err := strconv.ParseUint(text, 10, 64)
	if err != nil || cookie == 0 {
		return nil, errValue
	}
	return func(e *End) bool { return e.NetNS == cookie }, nil
}

func parseAddress(text string) (func(*Subject) bool, error) {
	p, err := parsePrefix(text)
	if err != nil {
		return nil, errValue
	}
	return func(s *Subject) bool {
		return p.Contains(s.Ends[0].Address) || p.Contains(s.Ends[1].Address)
	}, nil
}

// parsePrefix accepts a prefix, or an address as the prefix of all its bits.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return a.Prefix(a.BitLen())
}

func parsePort(text string) (func(*Subject) bool, error) {
	r, ok := portrange.Parse(text)
	if !ok {
		return nil, errValue
	}
	return func(s *Subject) bool { return r.Has(s.Port) }, nil
}

// parseWord is for values of a fixed list.
func parseWord(words func() []string, of func(*Subject) string) func(string) (func(*Subject) bool, error) {
	return func(text string) (func(*Subject) bool, error) {
		if !slices.Contains(words(), text) {
			return nil, errValue
		}
		return func(s *Subject) bool { return of(s) == text }, nil
	}
}

// Filter selects subjects. Its zero value selects all.
type Filter struct {
	values map[string]*[]string // by name of field

	owners         []rule[End] // all that are not negative have to fit one and the same end
	rules          []rule[Subject]
	positiveOwners bool
	port, cookie   string // the only value of --port and of --netns, where there is one
}

// rule has the conditions of one flag.
type rule[T any] struct{ any, none []func(*T) bool }

// Values returns the variable for the values of a field's flag.
func (f *Filter) Values(field string) *[]string {
	if f.values == nil {
		f.values = map[string]*[]string{}
	}
	if f.values[field] == nil {
		f.values[field] = new([]string)
	}
	return f.values[field]
}

// Check parses the values. Call it before the filter is used. Its error names the flag, the value, and the
// accepted values.
func (f *Filter) Check() error {
	f.owners, f.rules, f.positiveOwners, f.port, f.cookie = nil, nil, false, "", ""
	for i := range Fields {
		field := &Fields[i]
		values := *f.Values(field.Name)
		if len(values) == 0 {
			continue
		}
		var err error
		if field.end != nil {
			var r rule[End]
			r, err = readRule(field, values, field.end)
			f.owners = append(f.owners, r)
			f.positiveOwners = f.positiveOwners || len(r.any) > 0
		} else {
			var r rule[Subject]
			r, err = readRule(field, values, field.subject)
			f.rules = append(f.rules, r)
		}
		if err != nil {
			return err
		}
	}
	f.port, f.cookie = single(*f.Values("port")), single(*f.Values("netns"))
	return nil
}

func readRule[T any](
	field *Field, values []string, parse func(string) (func(*T) bool, error),
) (r rule[T], err error) {
	for _, value := range values {
		text, negative := strings.CutPrefix(value, "!")
		test, err := parse(text)
		if errors.Is(err, errValue) {
			accepted := field.accepts
			if accepted == "" {
				accepted = term.OrList(field.Words())
			}
			return r, fmt.Errorf("--%s: %q is not %s", field.Name, value, accepted)
		}
		if err != nil {
			return r, fmt.Errorf("--%s: %w", field.Name, err)
		}
		if negative {
			r.none = append(r.none, test)
		} else {
			r.any = append(r.any, test)
		}
	}
	return r, nil
}

// single is the value of a list of one; empty if there are more, or if it is negative or a range.
func single(values []string) string {
	if len(values) != 1 || strings.ContainsAny(values[0], "!-/") {
		return ""
	}
	return values[0]
}

// OnlyPort is the only port that the filter selects; 0: there is no such port.
func (f *Filter) OnlyPort() uint16 {
	n, _ := strconv.ParseUint(f.port, 10, 16)
	return uint16(n)
}

// OnlyNetNS is the cookie of the only network namespace that the filter names; 0: there is none.
func (f *Filter) OnlyNetNS() uint64 {
	n, _ := strconv.ParseUint(f.cookie, 10, 64)
	return n
}

// NamesOwners reports whether the filter asks for certain pods, namespaces or network namespaces.
func (f *Filter) NamesOwners() bool { return f.positiveOwners }

// Fits reports whether the filter selects the subject.
func (f *Filter) Fits(s *Subject) bool {
	for i := range f.rules {
		if !f.rules[i].fits(s) {
			return false
		}
	}
	if len(f.owners) == 0 {
		return true
	}
	for i := range f.owners {
		if hits(f.owners[i].none, &s.Ends[0]) || hits(f.owners[i].none, &s.Ends[1]) {
			return false
		}
	}
	return f.OwnerFits(&s.Ends[0]) || f.OwnerFits(&s.Ends[1])
}

// OwnerFits reports whether one end fits --pod, --namespace and --netns.
func (f *Filter) OwnerFits(e *End) bool {
	return !slices.ContainsFunc(f.owners, func(r rule[End]) bool { return !r.fits(e) })
}

func (r *rule[T]) fits(v *T) bool { return (len(r.any) == 0 || hits(r.any, v)) && !hits(r.none, v) }

func hits[T any](tests []func(*T) bool, v *T) bool {
	return slices.ContainsFunc(tests, func(test func(*T) bool) bool { return test(v) })
}

// String is the filter as flags.
func (f *Filter) String() string {
	var words []string
	for i := range Fields {
		if values := *f.Values(Fields[i].Name); len(values) > 0 {
			words = append(words, "--"+Fields[i].Name+" "+strings.Join(values, ","))
		}
	}
	return strings.Join(words, " ")
}

// Subject is the flow as filters see it.
func (f *Flow) Subject() *Subject {
	s := &Subject{
		Ends: [2]End{
			{Owner{f.Namespace, f.Pod, f.Container}, f.NetNSCookie, f.Local.Addr()},
			{Owner{f.PeerNamespace, f.PeerPod, f.PeerContainer}, f.PeerNetNSCookie, f.Remote.Addr()},
		},
		Port: f.Remote.Port(), Mode: f.Mode, Reason: f.Reason, Role: f.Role,
	}
	if f.Role == rolePassive {
		s.Port = f.Local.Port()
	}
	return s
}

// Flows selects flows. It reuses the memory of all.
func (f *Filter) Flows(all []Flow) []Flow {
	return slices.DeleteFunc(all, func(v Flow) bool { return !f.Fits(v.Subject()) })
}

// Pairs selects pairs of which one end fits. It reuses the memory of all.
func (f *Filter) Pairs(all []Pair) []Pair {
	return slices.DeleteFunc(all, func(p Pair) bool {
		return !(p.Client != nil && f.Fits(p.Client.Subject())) &&
			!(p.Server != nil && f.Fits(p.Server.Subject()))
	})
}

// BothEnds selects flows that fit, and those of their other ends.
func (f *Filter) BothEnds(all []Flow) []Flow {
	var picked []Flow
	for _, p := range f.Pairs(PairUp(all)) {
		for _, end := range p.Ends() {
			picked = append(picked, *end)
		}
	}
	return picked
}

// End returns the known owner of an end in a network namespace.
func (o Owners) End(cookie uint64) End {
	return End{Owner: o[cookie], NetNS: cookie}
}
