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

// Directories that most distributions use.
const (
	DefaultBinDir   = "/opt/cni/bin"
	DefaultConfDir  = "/etc/cni/net.d"
	DefaultCacheDir = "/var/lib/cni"
)

// lockTimeout bounds how long a call waits for another installer, which holds the lock for the time of a copy.
const lockTimeout = 10 * time.Second

// Installer installs the plugin. Installers in several processes may work on the same directories at once; the
// methods of one Installer must not be called at the same time.
type Installer struct {
	Source   string // the plugin's binary, to be copied
	BinDir   string
	ConfDir  string
	ConfName string // of a file in ConfDir; empty: the one that runtimes load first
	DropIn   bool   // a file in the network's directory, in place of an entry in its list
	Entry    Entry

	Log *slog.Logger // nil: nothing is logged

	// Settle is how long to wait before a file that cannot be read is passed over for the next one: somebody may be
	// writing it. 0 is not at all.
	Settle time.Duration

	// Step is called by its name before each step that changes something, for tests that abort or kill there. An
	// error is taken for the step's own. nil in production.
	Step func(name string) error

	// Hold, unless nil, is asked before Chain changes the file that holds the entry, or is to hold it. Chain returns its
	// error and leaves the file.
	Hold func(path string) error

	copied [2]fileID // source and binary when they were last found identical
}

func (i *Installer) step(name string) error {
	if i.Step == nil {
		return nil
	}
	return i.Step(name)
}

func (i *Installer) log() *slog.Logger { return cmp.Or(i.Log, slog.New(slog.DiscardHandler)) }

// lockName is the file in each directory that installers lock: everybody can open the directories themselves. No runtime loads
// it, by its name. Versions before it lock the directories, and one of them and a later one do not wait for each other: both write by
// renaming, and an agent puts right what it finds changed.
const lockName = ".sockmap-lock"

func (i *Installer) lock(ctx context.Context, dir string) (*lock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return ownfile.Lock(ctx, filepath.Join(dir, lockName))
}

// Chained is where the plugin's entry is.
type Chained struct {
	Path    string // the file that holds the entry
	Network string
	Main    string // type of the network's first plugin
	// Before and After are Path's content: as it was found and as it was left. They are the same unless Changed.
	// Before is nil when there was none.
	Before, After []byte
	Changed       bool
	Original      string // the .conf that Path stands in for, when it is made of it by this call
	Skipped       []Skipped
}

// plan is what has to be done, step by step, so that the entry is where Chained says.
type plan struct {
	Chained
	steps []func() error
}

func (p *plan) add(f func() error) { p.steps = append(p.steps, f) }

// Chain puts the entry into the network configuration. What is as it should be is not written again.
//
// The error is ErrNoNetwork when there is nothing to chain into yet, and a RefusedError when somebody has to change
// something first.
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
	// Somebody may have been faster.
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

// Plan tells where the entry is, or would be, and whether Chain has nothing to do. It changes nothing.
func (i *Installer) Plan() (c Chained, done bool, err error) {
	p, err := i.plan()
	return p.Chained, err == nil && len(p.steps) == 0, err
}

// planSettled gives whoever writes a file that sorts first the time to finish it.
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

// planInline puts the entry into a list.
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

// planRewrite writes a list again, where its file is: names in ConfDir may be symbolic links.
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

// chained returns the text with the entry once, behind another plugin: at the end, or where it stands already.
// Others want to be last, too, and its place makes no difference to it as long as it is not the first.
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

// unchained returns the text without any entry of this plugin. It fails when nothing would be left.
func (l *listText) unchained() ([]byte, error) {
	for {
		at := l.ownEntries()
		if len(at) == 0 {
			return l.text, nil
		}
		if len(l.entries) == 1 {
			return nil, errors.New("it has no other plugin than sockmap (remove the file)")
		}
		// The last one first: that is how it got there.
		next, err := readList(l.without(at[len(at)-1]))
		if err != nil {
			return nil, err
		}
		l = next
	}
}
