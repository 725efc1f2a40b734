// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"strings"
	"testing"
)

const attachments = `[
  {"namespace": "shop", "pod": "web-0", "netnsCookie": 9223372036854775809},
  {"namespace": "db", "pod": "web-0"},
  {"namespace": "default", "pod": "tiny", "declined": "its cgroup is gone"},
  {"namespace": "", "pod": ""}
]`

func learned() *Scrubber {
	s := NewScrubber(false, false)
	s.LearnNode("worker-17")
	s.LearnJSON([]byte(attachments))
	return s
}

func TestTextIsScrubbed(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"10.0.0.5:80 to 10.0.0.5", "ipv4-1:80 to ipv4-1"},
		{"[fd00::5%eth0]:80, [fd00::5]:443", ""},
		{"[fd00::5]:443 and fd00::5.", "[ipv6-1]:443 and ipv6-1."},
		{"::ffff:10.0.0.5 is 10.0.0.5", "ipv4-1 is ipv4-1"},
		{"listen: 127.0.0.1:9469", "listen: loopback-ipv4-1:9469"},
		{"[::1]:80 :: 0.0.0.0", "[loopback-ipv6-1]:80 any-ipv6-1 any-ipv4-1"},
		{"subnet 10.62.0.0/20", "subnet ipv4-1/20"},
		{"dial 10.0.0.5: refused", "dial ipv4-1: refused"},
		{"10.0.0.5,10.0.0.6", "ipv4-1,ipv4-2"},
		{"kernel 6.18.44, go1.26.8, at 2026-11-29T21:55:33Z", "kernel 6.18.44, go1.26.8, at 2026-11-29T21:55:33Z"},
		{"std::string aa:bb:cc:dd:ee:ff", "std::string aa:bb:cc:dd:ee:ff"},
		{"shop/web-0 does", "namespace-1/pod-1 does"},
		{`sockmap_flows{namespace="default",pod="tiny"} 3`, `sockmap_flows{namespace="namespace-3",pod="pod-3"} 3`},
		{`m{kind="a",namespace="db",node="",pod="web-0"} 1`,
			`m{kind="a",namespace="namespace-2",node="",pod="pod-2"} 1`},
		{`m{namespace="",pod=""} 1`, `m{namespace="",pod=""} 1`},
		{`msg=x pod=other/unknown-1`, `msg=x pod=namespace-4/pod-4`},
		{"K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;", "K8S_POD_NAMESPACE=namespace-1;K8S_POD_NAME=pod-1;"},
		{"/k8s_web-0_shop_uid", "/k8s_pod-1_namespace-1_uid"},
		{"web-0.shop.svc", "pod-1.namespace-1.svc"},
		{"accelerated by default on worker-17", "accelerated by default on node"},
		{"workshop", "workshop"},
	} {
		if c.want == "" {
			continue
		}
		if got := learned().Text(c.text); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestAddressWithAZoneHasTheSamePseudonym(t *testing.T) {
	got := learned().Text("[fd00::5%eth0]:80 fd00::5")
	if strings.Contains(got, "fd00") || strings.Count(got, "ipv6-1") != 2 {
		t.Errorf("%q", got)
	}
}

func TestJSONIsScrubbed(t *testing.T) {
	got, err := learned().JSON([]byte(attachments))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"pod": "pod-1"`, `"pod": "pod-2"`, `"namespace": "namespace-2"`,
		`"namespace": "namespace-3"`, `9223372036854775809`, `"pod": ""`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	got, err = learned().JSON([]byte(`{"switches": [{"kind": "pod", "name": "gone/for-good"}, {"kind": "namespace", "name": "tcp"}], "mode": "tcp"}`))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "gone") || strings.Contains(string(got), "for-good") ||
		!strings.Contains(string(got), `"name": "namespace-`) {
		t.Errorf("%s", got)
	}
}

func TestScrubberKeepsNamesAndAddressesOnRequest(t *testing.T) {
	const text = "shop/web-0 at 10.0.0.5 and fd00::5 on worker-17"
	s := NewScrubber(true, true)
	s.LearnJSON([]byte(attachments))
	if got := s.Text(text); got != text {
		t.Errorf("%q", got)
	}
	s = NewScrubber(false, true)
	s.LearnJSON([]byte(attachments))
	if got := s.Text(text); got != "shop/web-0 at ipv4-1 and ipv6-1 on worker-17" {
		t.Errorf("%q", got)
	}
}
