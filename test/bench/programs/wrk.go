// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func wrk(connections int, file string, more ...string) func(context.Context, *side, load) (sample, error) {
	return func(ctx context.Context, s *side, l load) (sample, error) {
		// wrk's duration is in whole seconds, and it also prints its results when it is interrupted. An
		// answer that comes late on a busy machine is only late, but one that does not come at all is an
		// error.
		args := append([]string{"wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", "100s", "--timeout", "10s",
			"--latency"}, more...)
		cmd := s.pods.Client.Command(ctx, "taskset", pinned(l.cpu, append(args, s.url(file)))...)
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		if err := s.pods.Client.Start(cmd); err != nil {
			return sample{}, err
		}
		ended, watched := make(chan struct{}), make(chan error, 1)
		go func() { watched <- interrupt(cmd.Process, l.duration, ended) }()
		err := cmd.Wait()
		close(ended)
		if err := errors.Join(err, <-watched, ctx.Err()); err != nil {
			return sample{}, fmt.Errorf("wrk: %w %s%s", err, out.Bytes(), complaint.Bytes())
		}
		return parseWrk(out.String())
	}
}

// interrupt ends wrk's measurement after this time. Before wrk catches the signal it would die of it, and a
// single signal between that and its sleep has no effect.
func interrupt(wrk *os.Process, duration time.Duration, ended <-chan struct{}) error {
	const step = 10 * time.Millisecond
	for caught, from := false, time.Now(); ; {
		select {
		case <-ended:
			return nil
		case <-time.After(step):
		}
		switch {
		case caught && time.Since(from) > duration:
			_ = wrk.Signal(syscall.SIGINT) // ended meanwhile: no error
			duration += 10 * step
		case !caught && time.Since(from) > patience:
			_ = wrk.Kill()
			return fmt.Errorf("it does not begin within %s", patience)
		case !caught:
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", wrk.Pid)); err == nil &&
				catches(string(status), syscall.SIGINT) {
				caught, from = true, time.Now()
			}
		}
	}
}

// catches reads /proc/PID/status.
func catches(status string, signal syscall.Signal) bool {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits>>(signal-1)&1 == 1
		}
	}
	return false
}
