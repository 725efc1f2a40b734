// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

func TestNarrowestPolicyPermitsWhatAllPermit(t *testing.T) {
	wide := Policy{Accelerate: true, Namespace: "shop"}
	for _, tt := range []struct {
		name       string
		with, want Policy
	}{
		{"of the same", wide, Policy{Accelerate: true, Namespace: "shop"}},
		{"who opts out wins", Policy{}, Policy{}},
		{"pod is narrower than node", Policy{Accelerate: true, Namespace: "shop", Peers: PeersPod},
			Policy{Accelerate: true, Namespace: "shop", Peers: PeersPod}},
		{
			"namespace is narrower than node", Policy{Accelerate: true, Namespace: "shop", Peers: PeersNamespace},
			Policy{Accelerate: true, Namespace: "shop", Peers: PeersNamespace},
		},
		{"two namespaces are none", Policy{Accelerate: true, Namespace: "bank"}, Policy{Accelerate: true}},
		{"a namespace and none is none", Policy{Accelerate: true}, Policy{Accelerate: true}},
		{
			"ports of one of them", Policy{Accelerate: true, Namespace: "shop",
				Include: []PortRange{{First: 80, Last: 80}}, Exclude: []PortRange{{First: 90, Last: 90}}},
			Policy{Accelerate: true, Namespace: "shop", Include: []PortRange{{First: 80, Last: 80}},
				Exclude: []PortRange{{First: 90, Last: 90}}},
		},
	} {
		for _, order := range [][]Policy{{wide, tt.with}, {tt.with, wide}, {wide, tt.with, wide}} {
			if got, left := Narrowest(order...); !reflect.DeepEqual(got, tt.want) || left != nil {
				t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, left, tt.want)
			}
		}
	}
	if got, _ := Narrowest(); got.Accelerate {
		t.Error("no policy permits something")
	}
}

func TestDisjointPortsAllowNoPort(t *testing.T) {
	a := Policy{Accelerate: true, Include: []PortRange{{First: 80, Last: 80}}}
	b := Policy{Accelerate: true, Include: []PortRange{{First: 443, Last: 443}}}
	p, left := Narrowest(a, b)
	if left != nil {
		t.Errorf("left %v out", left)
	}
	wantPorts(t, p, map[uint16]bool{})
}

// permits is port_permitted of bpf/policy.h.
func permits(p Policy, port uint16) bool {
	in := func(ranges []PortRange) bool {
		return slices.ContainsFunc(ranges, func(r PortRange) bool { return port >= r.First && port <= r.Last })
	}
	return (len(p.Include) == 0 || in(p.Include)) && !in(p.Exclude)
}

func wantPorts(t *testing.T, p Policy, want map[uint16]bool) {
	t.Helper()
	for port := range 1 << 16 {
		if got := permits(p, uint16(port)); got != want[uint16(port)] {
			t.Fatalf("port %d is permitted: %v, want %v; include %v, exclude %v", port, got, !got, p.Include,
				p.Exclude)
		}
	}
}

// Lists of any length, up to more ranges than an endpoint holds.
func TestNarrowestPortsAreThoseThatAllAllow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ranges := func() (out []PortRange) {
		width := 1 + r.IntN(1<<r.IntN(14))
		for range r.IntN(MaxPortRanges + 1) {
			first := r.IntN(1 << 16)
			out = append(out, PortRange{First: uint16(first), Last: uint16(min(65535, first+r.IntN(width)))})
		}
		return out
	}
	long := 0
	for range 100 {
		policies := make([]Policy, 2+r.IntN(3))
		for i := range policies {
			policies[i] = Policy{Accelerate: true, Include: ranges(), Exclude: ranges()}
			if r.IntN(2) == 0 {
				policies[i].Include = nil
			}
		}
		p, left := Narrowest(policies...)
		if _, err := p.encode(1); err != nil {
			t.Fatal(err)
		}
		want := map[uint16]bool{}
		for port := range 1 << 16 {
			all := !slices.ContainsFunc(policies, func(p Policy) bool { return !permits(p, uint16(port)) })
			if all && !slices.ContainsFunc(left, func(r PortRange) bool {
				return uint16(port) >= r.First && uint16(port) <= r.Last
			}) {
				want[uint16(port)] = true
			}
		}
		wantPorts(t, p, want)
		if len(p.Include) == MaxPortRanges && len(p.Exclude) > 0 {
			long++
		}
	}
	if long == 0 {
		t.Error("no policy needed both lists for what is included")
	}
}

func TestPortsThatNeedTooManyRangesAreNarrower(t *testing.T) {
	var even, odd []PortRange
	for i := range uint16(MaxPortRanges) {
		// Two excluded ports in each hundred, at different places: 33 ranges are left.
		even, odd = append(even, PortRange{First: 100*i + 100, Last: 100*i + 100}),
			append(odd, PortRange{First: 100*i + 150, Last: 100*i + 150})
	}
	p, left := Narrowest(Policy{Accelerate: true, Exclude: even}, Policy{Accelerate: true, Exclude: odd})
	if want := []PortRange{{First: 1601, Last: 1649}}; !slices.Equal(left, want) {
		t.Errorf("left %v out, want one of the smallest, %v", left, want)
	}
	if len(p.Include) != MaxPortRanges || len(p.Exclude) != MaxPortRanges {
		t.Errorf("%d and %d ranges, want all that there are", len(p.Include), len(p.Exclude))
	}
	for port, want := range map[uint16]bool{1: true, 99: true, 100: false, 120: true, 150: false, 199: true,
		1620: false, 1700: true, 65535: true} {
		if got := permits(p, port); got != want {
			t.Errorf("port %d is permitted: %v, want %v", port, got, want)
		}
	}
}

func TestARecordKeepsItsPolicy(t *testing.T) {
	d := load(t, defaults)
	want := Policy{Accelerate: true, Namespace: "shop", Peers: PeersPod,
		Include: []PortRange{{First: 80, Last: 81}}, Exclude: []PortRange{{First: 81, Last: 81}}}
	key := NewAttachmentKey("n", "c", "i")
	if err := d.PutAttachment(key, Attachment{NetNSCookie: 7, Policy: &want}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it was written, and as it was read and is written back
		a, ok, err := d.Attachment(key)
		if err != nil || !ok || a.Policy == nil {
			t.Fatalf("%+v, %v, %v", a, ok, err)
		}
		wanted := want
		wanted.Namespace, wanted.Group = "", want.group()
		if !reflect.DeepEqual(*a.Policy, wanted) {
			t.Errorf("got %+v, want %+v", *a.Policy, wanted)
		}
		if err := d.PutAttachment(key, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.PutAttachment(key, Attachment{}); err != nil {
		t.Fatal(err)
	}
	if a, _, err := d.Attachment(key); err != nil || a.Policy != nil {
		t.Errorf("a record without a policy has %+v, %v", a.Policy, err)
	}
	want.Include = make([]PortRange, MaxPortRanges+1)
	if err := d.PutAttachment(key, Attachment{Policy: &want}); err == nil {
		t.Error("a policy that has no room is recorded")
	}
}

func TestHasPolicyComparesTheEpoch(t *testing.T) {
	d := load(t, defaults)
	p := Policy{Accelerate: true}
	wantHas := func(when string, want bool) {
		t.Helper()
		if has, err := d.HasPolicy(7, p); err != nil || has != want {
			t.Errorf("%s: %v, %v, want %v", when, has, err, want)
		}
	}
	wantHas("not registered", false)
	set(t, d, 7, p)
	wantHas("registered", true)
	if _, err := d.SetForeign(7, true); err != nil {
		t.Fatal(err)
	}
	wantHas("another program runs last there", true)
	p.Peers = PeersPod
	wantHas("another policy", false)
	epoch := rawConfigOf(t, d).Epoch
	setBeforeEpoch(t, d, 7, p)
	wantHas("written by a call that was killed before the epoch", false)
	set(t, d, 7, p)
	wantHas("in force", true)
	if got := rawConfigOf(t, d).Epoch; got == epoch {
		t.Error("the epoch stays, and live sockets do not ask again")
	}
}

// setBeforeEpoch leaves the state of a SetEndpoint that was killed before it raised the epoch.
func setBeforeEpoch(t *testing.T, d *Datapath, cookie uint64, p Policy) {
	t.Helper()
	epoch := rawConfigOf(t, d).Epoch
	set(t, d, cookie, p)
	if err := d.update(func(c *bpf.SockmapConfig) { c.Epoch = epoch }); err != nil {
		t.Fatal(err)
	}
}

// withEach returns a policy for each field, in which only that field is not zero.
func withEach(t *testing.T) map[string]Policy {
	t.Helper()
	all := map[string]Policy{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Policy]()) {
		var p Policy
		switch v := reflect.ValueOf(&p).Elem().FieldByIndex(field.Index); {
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		case v.CanUint():
			v.SetUint(1)
		case v.Kind() == reflect.String:
			v.SetString("shop")
		case v.Type() == reflect.TypeFor[[]PortRange]():
			v.Set(reflect.ValueOf([]PortRange{{First: 80, Last: 81}}))
		default:
			t.Errorf("this test cannot set %s", field.Name)
		}
		all[field.Name] = p
	}
	return all
}

func TestEveryFieldOfAPolicyCrossesToThePrograms(t *testing.T) {
	for name, p := range withEach(t) {
		ep, err := p.encode(7)
		if err != nil {
			t.Fatal(err)
		}
		want := p
		want.Namespace, want.Group = "", ep.Group // a name is not kept
		if got := decodePolicy(&ep); !reflect.DeepEqual(got, want) {
			t.Errorf("%s does not cross: %+v, want %+v", name, got, want)
		}
		if zero, err := (Policy{}).encode(7); err != nil || zero == ep {
			t.Errorf("%s makes no difference to the programs (%v)", name, err)
		}
	}
}

// A field that Narrowest does not name would be that of the first policy.
func TestNarrowestDecidesEveryField(t *testing.T) {
	for name, p := range withEach(t) {
		one, _ := Narrowest(p, Policy{})
		other, _ := Narrowest(Policy{}, p)
		if !reflect.DeepEqual(one, other) {
			t.Errorf("%s depends on the order: %+v and %+v", name, one, other)
		}
	}
}
