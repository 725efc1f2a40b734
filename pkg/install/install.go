// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/pkg/ownfile"
)

// Directories of most distributions.
const (
	DefaultBinDir   = "/opt/cni/bin"
	DefaultConfDir  = "/etc/cni/net.d"
	DefaultCacheDir = "/var/lib/cni"
)

// lockTimeout bounds how long a call waits for another installer, which holds the lock while it copies the
// plugin.
const lockTimeout = 10 * time.Second

// Installer installs the plugin. Installers in several processes may work on the same directories at once,
// but the methods of one Installer must not be called concurrently.
type Installer struct {
	Source   string // the plugin's binary, to be copied
	BinDir   string
	ConfDir  string
	ConfName string // name of a file in ConfDir; empty: the one that runtimes load first
	DropIn   bool   // write a file in the network's directory instead of an entry in its list
	Entry    Entry

	Log *slog.Logger // nil: nothing is logged

	// Settle is how long to wait before a file that cannot be read is skipped: another process may be writing
	// it. 0: do not wait.
	Settle time.Duration

	// Step is called with a name before each step that changes something. Tests use it to abort or kill
	// there: its error counts as the error of the step. nil in production.
	Step func(name string) error

	// Hold, if not nil, is called before Chain changes the file with the entry. Chain returns its error and
	// does not change the file.
	Hold func(path string) error

	copied [2]fileID // source and binary when they were last identical
}

func (i *Installer) step(name string) error {
	if i.Step == nil {
		return nil
	}
	return i.Step(name)
}

func (i *Installer) log() *slog.Logger { return cmp.Or(i.Log, slog.New(slog.DiscardHandler)) }

// lockName is the file that installers lock in each directory, because others can open the directory itself.
// No runtime loads it. Versions before it lock the directory, so an older and a newer version do not exclude
// each other. Both write by renaming, and an agent repairs what it finds changed.
const lockName = ".sockmap-lock"

func (i *Installer) lock(ctx context.Context, dir string) (*lock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return ownfile.Lock(ctx, filepath.Join(dir, lockName))
}

// Chained says where the plugin's entry is.
type Chained struct {
	Path    string // the file with the entry
	Network string
	Main    string // type of the network's first plugin
	// Before and After are the content of Path before and after the call. They are equal unless Changed.
	// Before is nil if the file did not exist.
	Before, After []byte
	Changed       bool
	Original      string // the .conf from which this call made Path
	Skipped       []Skipped
}

// plan is a Chained and the steps that lead to it.
type plan struct {
	Chained
	steps []func() error
}

func (p *plan) add(f func() error) { p.steps = append(p.steps, f) }

// Chain adds the entry to the network configuration. It does not write a file that is right already.
//
// The error is ErrNoNetwork if there is no network configuration yet, and a RefusedError if somebody has to
// change something first.
func (i *Installer) Chain(ctx context.Context) (Chained, error) {
	p, err := i.planSettled(ctx)
	if err != nil {
		return p.Chained, err
	}
	if left, err := temps(i.ConfDir); err != nil || len(left)+len(p.steps) == 0 {
		return p.Chained, err
	}
	if err := i.checkHold(p); err != nil {
		return p.Chained, err
	}
	locked, err := i.lock(ctx, i.ConfDir)
	if err != nil {
		return p.Chained, err
	}
	defer locked.Unlock()
	if err := removeTemps(i.ConfDir); err != nil {
		return p.Chained, err
	}
	// Another process may have changed the files meanwhile.
	if p, err = i.plan(); err == nil {
		err = i.checkHold(p)
	}
	if err != nil {
		return p.Chained, err
	}
	for _, step := range p.steps {
		if err := step(); err != nil {
			return p.Chained, err
		}
		p.Changed = true
	}
	return p.Chained, nil
}

func (i *Installer) checkHold(p plan) error {
	if i.Hold == nil || len(p.steps) == 0 {
		return nil
	}
	return i.Hold(p.Path)
}

// Plan returns where the entry is, or would be. done reports that Chain has nothing to do. It changes
// nothing.
func (i *Installer) Plan() (c Chained, done bool, err error) {
	p, err := i.plan()
	return p.Chained, err == nil && len(p.steps) == 0, err
}

// planSettled plans, and waits once for Settle if a file that sorts first is incomplete.
func (i *Installer) planSettled(ctx context.Context) (plan, error) {
	p, err := i.plan()
	if i.Settle == 0 || len(p.Skipped) == 0 {
		return p, err
	}
	select {
	case <-ctx.Done():
		return p, ctx.Err()
	case <-time.After(i.Settle):
	}
	return i.plan()
}

func (i *Installer) plan() (plan, error) {
	n, skipped, err := i.chooseNetwork()
	p := plan{Chained: Chained{Skipped: skipped}}
	if err != nil {
		return p, err
	}
	p.Path, p.Network = n.path, n.list.Name
	if len(n.list.Plugins) > 0 {
		p.Main = n.list.Plugins[0].Network.Type
	}
	err = n.check()
	if err == nil && i.ConfName == "" {
		err = n.checkChosen()
	}
	switch {
	case err != nil:
	case i.DropIn:
		err = i.planDropIn(&p, n)
	case n.single:
		err = i.planConvert(&p, n)
	default:
		err = i.planInline(&p, n)
	}
	if err == nil && !i.DropIn {
		err = i.planNoDropIns(&p, "")
	}
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) {
		err = &RefusedError{n.path, err}
	}
	return p, err
}

// planInline plans an entry in a list.
func (i *Installer) planInline(p *plan, n *network) error {
	l, err := readList(n.text)
	if err != nil {
		return err
	}
	p.Before = n.text
	if p.After, err = l.chained(i.Entry); err != nil {
		return err
	}
	return i.planRewrite(p, n, p.After)
}

// planRewrite plans to replace the content of a list. It replaces the file itself, if its name in ConfDir is
// a symbolic link.
func (i *Installer) planRewrite(p *plan, n *network, after []byte) error {
	if string(after) == string(n.text) {
		return nil
	}
	if err := verify(n.list, after); err != nil {
		return err
	}
	p.add(func() error { return i.rewrite(n.path, after) })
	return nil
}

func (i *Installer) rewrite(path string, text []byte) error {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	as, err := fileAttributesOf(file)
	if err != nil {
		return err
	}
	if err := i.publish(file, newReader(text), as); err != nil {
		return err
	}
	if filepath.Dir(file) != filepath.Dir(path) {
		i.touchConfDir()
	}
	return nil
}

// chained returns the text with exactly one entry, after another plugin: where it is already, or else at the
// end. It does not move to the end, because other plugins want to be last as well, and any place but the
// first will do.
func (l *listText) chained(e Entry) ([]byte, error) {
	for {
		at := l.ownEntries()
		switch {
		case len(at) == 0 && len(l.entries) == 0:
			return nil, errors.New("plugins: empty")
		case len(at) == 0:
			return l.with(e), nil
		case len(at) == 1 && at[0] > 0:
			if sameJSON(l.entries[at[0]].of(l.text), e.text) {
				return l.text, nil
			}
			return l.replaced(at[0], e), nil
		}
		next, err := readList(l.without(at[0]))
		if err != nil {
			return nil, err
		}
		l = next
	}
}

// unchained returns the text without entries of this plugin. It returns an error if no plugin would be left.
func (l *listText) unchained() ([]byte, error) {
	for {
		at := l.ownEntries()
		if len(at) == 0 {
			return l.text, nil
		}
		if len(l.entries) == 1 {
			return nil, errors.New("it has no other plugin than sockmap (remove the file)")
		}
		// The last one first, as it was added at the end.
		next, err := readList(l.without(at[len(at)-1]))
		if err != nil {
			return nil, err
		}
		l = next
	}
}
