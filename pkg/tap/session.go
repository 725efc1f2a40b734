// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

const (
	renewEvery  = datapath.TapLease / 3
	lockTimeout = 10 * time.Second
)

// Session is a tap that stays alive until it is closed. Its methods may be called from several goroutines,
// Read only from one.
type Session struct {
	dir  string
	d    *datapath.Datapath
	tap  *datapath.Tap
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex // of what follows
	filter  datapath.TapFilter
	renewed time.Time
	lapse   time.Duration
	failed  error
}

// Open begins to copy. It returns datapath.ErrNotLoaded if nothing is loaded, and datapath.ErrTapped if
// another tap is alive.
func Open(ctx context.Context, dir string, f datapath.TapFilter, ringBytes int) (*Session, error) {
	d, err := datapath.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Session{dir: dir, d: d, filter: f, renewed: time.Now()}
	err = s.locked(ctx, lockTimeout, func() (err error) {
		s.tap, err = datapath.OpenTap(d, f, ringBytes)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.done.Go(func() { s.keepAlive(ctx) })
	return s, nil
}

// locked runs f under the lock of the state directory. The tap's words are in a map that other processes
// read, change and write back under this lock.
func (s *Session) locked(ctx context.Context, patience time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := datapath.LockStateDir(ctx, s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w any more", datapath.ErrNotLoaded)
	}
	if err != nil {
		return err
	}
	if _, unloaded := datapath.UnloadedOnRequest(l.Path()); unloaded {
		return errors.Join(fmt.Errorf("%w any more", datapath.ErrNotLoaded), l.Unlock())
	}
	return errors.Join(f(), l.Unlock())
}

func (s *Session) keepAlive(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.locked(ctx, renewEvery, s.renew)
		// If another process holds the lock for too long, the verdict stops copying, and continues later.
		if err == nil || errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			continue
		}
		s.mu.Lock()
		s.failed = fmt.Errorf("keep the tap alive: %w", err)
		s.mu.Unlock()
		return
	}
}

func (s *Session) renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if late := time.Since(s.renewed) - datapath.TapLease; late > 0 {
		s.lapse += late
	}
	s.renewed = time.Now()
	return s.tap.Renew(s.filter)
}

// SetFilter changes what is copied, within a second.
func (s *Session) SetFilter(f datapath.TapFilter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filter = f
}

// Read reads as datapath.Tap does, and returns an error if the tap could not be kept alive.
func (s *Session) Read(c *datapath.TapChunk, deadline time.Time) error {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	return s.tap.Read(c, deadline)
}

// Drops returns the messages for which the ring had no space.
func (s *Session) Drops() (datapath.TapDrops, error) { return s.tap.Drops() }

// Lapse is how long nothing was copied, because another process held the lock.
func (s *Session) Lapse() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lapse
}

// Stop ends the copying. Messages that were copied can still be read.
func (s *Session) Stop() error {
	s.stop()
	s.done.Wait()
	err := s.locked(context.Background(), lockTimeout, s.tap.Stop)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	return err
}

// Close removes the tap.
func (s *Session) Close() error {
	s.stop()
	s.done.Wait()
	err := s.locked(context.Background(), lockTimeout, s.tap.Close)
	if errors.Is(err, datapath.ErrNotLoaded) {
		err = s.tap.Close() // of pins that are gone, and so nobody's
	}
	return errors.Join(err, s.d.Close())
}
