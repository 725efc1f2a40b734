// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

const (
	configFileFlag = "config-file"
	entryKey       = "entry"
	// fromFile marks a flag whose value comes from a file. The annotation names file and line.
	fromFile = "sockmapctl-from-file"
)

// inEntry are flags of the agent that are no keys of the file, because the entry has a key for the same
// setting.
var inEntry = map[string]string{
	"config": "the keys of the entry", "accept-hazards": "acceptHazards", "bpffs-path": "bpffsPath",
}

// configFile is the flag --config-file: a YAML file with values of the agent's flags, by their names, and
// with the entry. install and uninstall accept the same file.
type configFile struct {
	path  string
	entry *fileEntry // nil: the file has none
}

// flag must be called before the other flags' checks are added, so that they see the values of the file.
func (c *configFile) flag(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.path, configFileFlag, "",
		"YAML `FILE` with the entry, and values for flags of agent that are not given")
	before(cmd, func() error {
		if c.path == "" {
			return nil
		}
		return c.read(a, cmd)
	})
}

func (c *configFile) read(a *app, cmd *cobra.Command) error {
	f, err := os.Open(c.path)
	if err != nil {
		return fmt.Errorf("--%s: %w", configFileFlag, err)
	}
	defer f.Close()
	top, err := c.document(f)
	if err != nil || top == nil {
		return err
	}
	// All commands check the whole file against the agent's flags, so that they agree on whether it is valid.
	known := agentCommand(&app{env: a.env}).Flags()
	var wrong []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if seen[key.Value] {
			wrong = append(wrong, c.at(key, "%s: it is there twice (leave one out)", key.Value))
			continue
		}
		seen[key.Value] = true
		if key.Value == entryKey {
			c.entry, err = c.newEntry(value)
		} else {
			err = c.set(known, cmd.Flags(), key, value)
		}
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// document returns the file's mapping, nil when all of it is comments.
func (c *configFile) document(r io.Reader) (*yaml.Node, error) {
	var document, second yaml.Node
	d := yaml.NewDecoder(r)
	err := d.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if next := d.Decode(&second); next == nil {
			return nil, c.at(&second,
				"a second document begins (one file, one document: remove the line ---)")
		} else if !errors.Is(next, io.EOF) {
			err = next
		}
	}
	if err != nil {
		if line := yamlLine.FindStringSubmatch(err.Error()); line != nil {
			return nil, fmt.Errorf("%s:%s: %s", c.path, line[1], err.Error()[len(line[0]):])
		}
		return nil, fmt.Errorf("%s: %s", c.path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	top := document.Content[0]
	if top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, c.at(top, "not keys with values, such as \"listen: 127.0.0.1:9469\"")
	}
	return top, nil
}

// set gives a flag the value of a key. known are the agent's flags, own those of the command that runs.
func (c *configFile) set(known, own *pflag.FlagSet, key, value *yaml.Node) error {
	if where, ok := inEntry[key.Value]; ok {
		return c.at(key, "%s: it is no key of the file (write %s below %s)", key.Value, where, entryKey)
	}
	flag := known.Lookup(key.Value)
	if flag == nil || key.Value == configFileFlag || key.Value == "help" {
		return c.unknown(known, key)
	}
	if err := setFlag(flag, value); err != nil {
		return c.at(value, "%s: %w", key.Value, err)
	}
	// The command line wins. Keys that this command has no flag for are only checked.
	if flag = own.Lookup(key.Value); flag == nil || flag.Changed {
		return nil
	}
	flag.Annotations = map[string][]string{fromFile: {fmt.Sprintf("%s:%d", c.path, value.Line)}}
	return setFlag(flag, value)
}

func (c *configFile) unknown(known *pflag.FlagSet, key *yaml.Node) error {
	names := []string{entryKey}
	known.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if slices.Contains(cniconf.KeyNames(), key.Value) {
		return c.at(key, "%s: unknown key (write it below %s)", key.Value, entryKey)
	}
	if near := cniconf.Nearest(key.Value, names); near != "" {
		return c.at(key, "%s: unknown key (did you mean %s?)", key.Value, near)
	}
	const text = "%s: unknown key (keys are %s and the flags of: sockmapctl agent --help)"
	return c.at(key, text, key.Value, entryKey)
}

// at returns an error with a line of the file.
func (c *configFile) at(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", c.path, node.Line, fmt.Errorf(format, args...))
}

// kinds are the YAML types of a flag's values: the tag, and words that complete "is not ...".
var kinds = map[string]struct{ tag, allowed string }{
	"bool":        {"!!bool", "true or false"},
	"int":         {"!!int", "a whole number"},
	"string":      {"!!str", "text (put it into quotes)"},
	"duration":    {"!!str", "a time such as 30s or 5m"},
	"stringSlice": {"!!seq", "a list of texts such as [one, two]"},
}

// setFlag sets a flag to a value of the flag's type.
func setFlag(flag *pflag.Flag, value *yaml.Node) error {
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	kind, ok := kinds[flag.Value.Type()]
	if !ok {
		// A mistake in this program, which a test finds.
		return fmt.Errorf("flags of the type %s have no key", flag.Value.Type())
	}
	if value.ShortTag() == "!!null" {
		return errors.New("it has no value (make the line a comment, to have the default)")
	}
	of := flag.Value
	if given, ok := of.(*givenValue); ok {
		of = given.Value // the file may have the default of a text, which may be empty
	}
	mismatch := fmt.Errorf("%s is not %s", shownNode(value), kind.allowed)
	if value.ShortTag() != kind.tag {
		return mismatch
	}
	if list, ok := of.(pflag.SliceValue); ok {
		var words []string
		for _, item := range value.Content {
			if item.ShortTag() != "!!str" || isBlank(item.Value) {
				return mismatch
			}
			words = append(words, item.Value)
		}
		return list.Replace(words)
	}
	if of.Set(value.Value) != nil {
		return mismatch
	}
	return nil
}

// shownNode is a value on one line, shortened if it is long.
func shownNode(value *yaml.Node) string {
	const most = 60
	text := value.Value
	if value.Kind != yaml.ScalarNode {
		raw, err := yaml.Marshal(value)
		if err != nil {
			return "that"
		}
		text = strings.Join(strings.Fields(string(raw)), " ")
	} else if value.Tag == "!!str" {
		text = fmt.Sprintf("%q", text)
	}
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

// blame adds file and line to errors about flags whose values came from a file.
func blame(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	changed := false
	for i, line := range lines {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "--"), ": ")
		if !ok || !strings.HasPrefix(line, "--") {
			continue
		}
		if flag := cmd.Flags().Lookup(name); flag != nil && !flag.Changed &&
			len(flag.Annotations[fromFile]) > 0 {
			lines[i] = fmt.Sprintf("%s: %s: %s", flag.Annotations[fromFile][0], name, rest)
			changed = true
		}
	}
	if !changed {
		return err
	}
	return errors.New(strings.Join(lines, "\n"))
}
