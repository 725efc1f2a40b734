// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func pgbench(connections int, more ...string) func(context.Context, *side, load) (sample, error) {
	return func(ctx context.Context, s *side, l load) (sample, error) {
		each := max(20, l.count/connections)
		logs := filepath.Join(s.dir, "pgbench")
		args := append([]string{"-n", "-c", strconv.Itoa(connections), "-t", strconv.Itoa(each), "-l",
			"--log-prefix", logs}, more...)
		out, err := s.client(ctx, l.cpu, s.postgres("pgbench", args...)...)
		if err == nil {
			err = checkPgbench(out, each*connections)
		}
		if err != nil {
			return sample{}, err
		}
		return readTransactions(logs + ".*")
	}
}

// readTransactions also removes the log.
func readTransactions(pattern string) (sample, error) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return sample{}, fmt.Errorf("pgbench left the logs %v instead of one", found)
	}
	b, err := os.ReadFile(found[0])
	if err == nil {
		err = os.Remove(found[0])
	}
	if err != nil {
		return sample{}, err
	}
	all, err := parseTransactions(string(b))
	if err != nil {
		return sample{}, err
	}
	return steady(all)
}

// transaction is one line of pgbench's log.
type transaction struct {
	client string
	took   time.Duration
	end    int64 // microseconds
}

// parseTransactions reads lines of: client, number, duration in microseconds, script, second and microsecond
// of the end.
func parseTransactions(log string) (all []transaction, err error) {
	for line := range strings.Lines(log) {
		var numbers [3]int64
		fields := strings.Fields(line)
		if len(fields) < 6 {
			return nil, fmt.Errorf("the log of pgbench has the line %q", line)
		}
		for i, field := range []string{fields[2], fields[4], fields[5]} {
			if numbers[i], err = strconv.ParseInt(field, 10, 64); err != nil {
				return nil, fmt.Errorf("the log of pgbench has the line %q: %w", line, err)
			}
		}
		all = append(all, transaction{fields[0], time.Duration(numbers[0]) * time.Microsecond,
			numbers[1]*1e6 + numbers[2]})
	}
	return all, nil
}

// steady measures from a fifth of the time to the end of the first client. Before that, the server's new
// processes fill their caches, which is no work of TCP and takes longer than many transactions.
func steady(all []transaction) (sample, error) {
	if len(all) == 0 {
		return sample{}, errors.New("the log of pgbench is empty")
	}
	last := map[string]int64{}
	first := all[0].end
	for _, t := range all {
		first = min(first, t.end)
		last[t.client] = max(last[t.client], t.end)
	}
	var ends []int64
	for _, end := range last {
		ends = append(ends, end)
	}
	until := slices.Min(ends)
	from := first + (until-first)/5
	var took []time.Duration
	for _, t := range all {
		if t.end > from && t.end <= until {
			took = append(took, t.took)
		}
	}
	if len(took) == 0 {
		return sample{}, fmt.Errorf("none of %d transactions of pgbench ended while all clients were at work",
			len(all))
	}
	slices.Sort(took)
	return sample{rate: float64(len(took)) / (float64(until-from) / 1e6), p99: took[len(took)*99/100],
		count: len(took)}, nil
}
