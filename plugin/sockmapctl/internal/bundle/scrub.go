// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Scrubber replaces IP addresses, and names of pods, namespaces and the node, with pseudonyms. A pseudonym is
// the same in all parts of a bundle, so that rows can be joined. Learn all parts before the first is
// scrubbed: a name in one part is then found in the text of every other.
type Scrubber struct {
	KeepAddresses, KeepNames bool

	addresses  map[netip.Addr]string
	kinds      map[string]int // addresses of each kind so far
	pods       map[podKey]string
	namespaces map[string]string
	words      map[string]string // bare names, for text
	longest    *strings.Replacer // of names that are long enough to be found within words; nil: to be made
}

type podKey struct{ namespace, name string }

// NewScrubber returns a Scrubber that has learnt no name yet.
func NewScrubber(keepAddresses, keepNames bool) *Scrubber {
	return &Scrubber{
		KeepAddresses: keepAddresses, KeepNames: keepNames,
		addresses: map[netip.Addr]string{}, kinds: map[string]int{}, pods: map[podKey]string{},
		namespaces: map[string]string{}, words: map[string]string{},
	}
}

// LearnNode adds the name of this machine.
func (s *Scrubber) LearnNode(name string) {
	if name != "" && name != "localhost" {
		s.word(name, "node")
	}
}

func (s *Scrubber) word(name, pseudonym string) {
	if _, ok := s.words[name]; !ok {
		s.words[name], s.longest = pseudonym, nil
	}
}

// everyday is a namespace of every cluster, and also a common word.
const everyday = "default"

func (s *Scrubber) namespace(name string) string {
	if name == "" || s.KeepNames {
		return name
	}
	pseudonym, ok := s.namespaces[name]
	if !ok {
		pseudonym = fmt.Sprintf("namespace-%d", len(s.namespaces)+1)
		s.namespaces[name] = pseudonym
		if name != everyday {
			s.word(name, pseudonym)
		}
	}
	return pseudonym
}

func (s *Scrubber) pod(namespace, name string) string {
	if name == "" || s.KeepNames {
		return name
	}
	key := podKey{namespace, name}
	pseudonym, ok := s.pods[key]
	if !ok {
		pseudonym = fmt.Sprintf("pod-%d", len(s.pods)+1)
		s.pods[key] = pseudonym
		s.word(name, pseudonym)
	}
	return pseudonym
}

// slashed is for "namespace/name", and for a name alone.
func (s *Scrubber) slashed(value string) string {
	namespace, name, both := strings.Cut(value, "/")
	if !both {
		return s.pod("", value)
	}
	return s.namespace(namespace) + "/" + s.pod(namespace, name)
}

// JSON scrubs a document: some values by their keys, all other strings as text. The result is indented as the
// commands indent.
func (s *Scrubber) JSON(content []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber() // cookies are larger than what a float keeps
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s.value(v)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// LearnJSON adds the names of a document that JSON will scrub.
func (s *Scrubber) LearnJSON(content []byte) {
	_, _ = s.JSON(content) // what is no JSON has no names
}

func (s *Scrubber) value(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return s.object(v)
	case []any:
		for i := range v {
			v[i] = s.value(v[i])
		}
	case string:
		return s.Text(v)
	}
	return v
}

// prefixes of the keys that commands have for this end and for the other.
var ends = []struct{ namespace, pod string }{{"namespace", "pod"}, {"peerNamespace", "peerPod"}}

func (s *Scrubber) object(all map[string]any) map[string]any {
	done := map[string]bool{}
	for _, end := range ends {
		namespace, _ := all[end.namespace].(string)
		if name, ok := all[end.pod].(string); ok {
			all[end.pod], done[end.pod] = s.pod(namespace, name), true
		}
		if _, ok := all[end.namespace].(string); ok {
			all[end.namespace], done[end.namespace] = s.namespace(namespace), true
		}
	}
	// A switch: {"kind": "pod", "name": "shop/web-0"}.
	if name, ok := all["name"].(string); ok {
		switch all["kind"] {
		case "pod":
			all["name"], done["name"] = s.slashed(name), true
		case "namespace":
			all["name"], done["name"] = s.namespace(name), true
		}
	}
	for key, v := range all {
		if !done[key] {
			all[key] = s.value(v)
		}
	}
	return all
}

// labels are the labels of one series: a pod's name belongs to its namespace.
var labels = regexp.MustCompile(`(\{[^{}\n]*\bnamespace=")([^"\n]*)("[^{}\n]*\bpod=")([^"\n]*)`)

// named matches values that are names whatever they look like: labels of metrics (pod="web-0"), attributes of
// a log (pod=shop/web-0), and CNI_ARGS.
var named = regexp.MustCompile(`\b(pod|namespace|K8S_POD_NAME|K8S_POD_NAMESPACE)=("(?:[^"\\]|\\.)*"|[^\s;,"}]+)`)

// Text scrubs text that is not JSON.
func (s *Scrubber) Text(text string) string {
	if !s.KeepNames {
		text = labels.ReplaceAllStringFunc(text, func(found string) string {
			m := labels.FindStringSubmatch(found)
			return m[1] + s.namespace(m[2]) + m[3] + s.pod(m[2], m[4])
		})
		text = named.ReplaceAllStringFunc(text, func(found string) string {
			key, value, _ := strings.Cut(found, "=")
			quote := ""
			if strings.HasPrefix(value, `"`) {
				quote, value = `"`, strings.Trim(value, `"`)
			}
			return key + "=" + quote + s.byKey(key, value) + quote
		})
		text = s.names(text)
	}
	if !s.KeepAddresses {
		text = s.addressesIn(text)
	}
	return text
}

// byKey leaves pseudonyms as they are.
func (s *Scrubber) byKey(key, value string) string {
	switch {
	case pseudonym.MatchString(value):
		return value
	case strings.EqualFold(key, "namespace") || key == "K8S_POD_NAMESPACE":
		return s.namespace(value)
	}
	if known, ok := s.words[value]; ok {
		return known
	}
	return s.slashed(value)
}

var pseudonym = regexp.MustCompile(`^(namespace-[0-9]+|(namespace-[0-9]+/)?pod-[0-9]+)$`)

// distinctive reports whether a name is long enough, and unlike a word of a language, to be replaced anywhere
// in the text.
func distinctive(name string) bool {
	return len(name) >= 6 && strings.ContainsAny(name, "-.0123456789")
}

// names replaces known names: distinctive ones anywhere, others where they are words.
func (s *Scrubber) names(text string) string {
	if s.longest == nil {
		var all []string
		for name := range s.words {
			if distinctive(name) {
				all = append(all, name)
			}
		}
		// The replacer takes the first match, so the longest name comes first.
		slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
		var pairs []string
		for _, name := range all {
			pairs = append(pairs, name, s.words[name])
		}
		s.longest = strings.NewReplacer(pairs...)
	}
	return words.ReplaceAllStringFunc(s.longest.Replace(text), func(word string) string {
		if known, ok := s.words[word]; ok {
			return known
		}
		return word
	})
}

// words matches possible names, with the hyphens within them.
var words = regexp.MustCompile(`[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*`)

// candidates matches possible addresses, with the characters directly before and after.
var candidates = regexp.MustCompile(`[0-9A-Za-z:.]*[:.][0-9A-Za-z:.]*`)

func (s *Scrubber) addressesIn(text string) string {
	return candidates.ReplaceAllStringFunc(text, func(run string) string {
		// A dot at the end belongs to a sentence or a label, not to the address. "::" does belong to it.
		core := strings.TrimRight(run, ".")
		if strings.HasSuffix(core, ":") && !strings.HasSuffix(core, "::") {
			core = strings.TrimSuffix(core, ":")
		}
		rest := run[len(core):]
		if a, err := netip.ParseAddr(core); err == nil {
			return s.address(a) + rest
		}
		if a, err := netip.ParseAddrPort(core); err == nil {
			return fmt.Sprintf("%s:%d%s", s.address(a.Addr()), a.Port(), rest)
		}
		return run
	})
}

func (s *Scrubber) address(a netip.Addr) string {
	a = a.Unmap()
	if known, ok := s.addresses[a]; ok {
		return known
	}
	family := "ipv4"
	if a.Is6() {
		family = "ipv6"
	}
	kind := family
	switch {
	case a.IsLoopback():
		kind = "loopback-" + family
	case a.IsUnspecified():
		kind = "any-" + family
	case a.IsLinkLocalUnicast():
		kind = "link-local-" + family
	}
	s.kinds[kind]++
	s.addresses[a] = fmt.Sprintf("%s-%d", kind, s.kinds[kind])
	return s.addresses[a]
}
