// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"encoding/csv"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseRedis reads the output of redis-benchmark --csv -e for one test.
func parseRedis(out string) (sample, error) {
	trouble := func(what string) (sample, error) {
		return sample{}, fmt.Errorf("redis-benchmark: %s: %s", what, strings.TrimSpace(out))
	}
	if strings.Contains(out, "Error") {
		return trouble("requests failed")
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != 2 {
		return trouble("a head and one line of CSV were expected")
	}
	column := func(name string) (float64, error) {
		i := slices.Index(records[0], name)
		if i < 0 {
			return 0, fmt.Errorf("no column %s", name)
		}
		return strconv.ParseFloat(records[1][i], 64)
	}
	rate, err := column("rps")
	if err != nil {
		return trouble(err.Error())
	}
	ms, err := column("p99_latency_ms")
	if err != nil {
		return trouble(err.Error())
	}
	return sample{rate: rate, p99: time.Duration(ms * float64(time.Millisecond))}, nil
}

var (
	wrkTrouble  = regexp.MustCompile(`(?m)^\s*(Socket errors:.*|Non-2xx or 3xx responses:.*)$`)
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)
	wrkP99      = regexp.MustCompile(`(?m)^\s+99%\s+([0-9.]+)(us|ms|s)$`)
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
)

// parseWrk reads the output of wrk --latency.
func parseWrk(out string) (s sample, err error) {
	trouble := func(what string) (sample, error) {
		return sample{}, fmt.Errorf("wrk: %s: %s", what, strings.TrimSpace(out))
	}
	if m := wrkTrouble.FindStringSubmatch(out); m != nil {
		return trouble("requests failed")
	}
	rate, p99, requests := wrkRate.FindStringSubmatch(out), wrkP99.FindStringSubmatch(out),
		wrkRequests.FindStringSubmatch(out)
	if rate == nil || p99 == nil || requests == nil {
		return trouble("rate, latency and number of requests were expected")
	}
	if s.rate, err = strconv.ParseFloat(rate[1], 64); err != nil {
		return trouble(err.Error())
	}
	if s.p99, err = time.ParseDuration(p99[1] + p99[2]); err != nil {
		return trouble(err.Error())
	}
	if s.count, err = strconv.Atoi(requests[1]); err != nil {
		return trouble(err.Error())
	}
	return s, nil
}

var (
	pgbenchDone   = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)/(\d+)$`)
	pgbenchFailed = regexp.MustCompile(`(?m)^number of failed transactions: (\d+) `)
)

// checkPgbench reads the output of pgbench -t for this number of transactions.
func checkPgbench(out string, transactions int) error {
	done, failed := pgbenchDone.FindStringSubmatch(out), pgbenchFailed.FindStringSubmatch(out)
	want := strconv.Itoa(transactions)
	if done == nil || done[1] != want || done[2] != want || failed != nil && failed[1] != "0" {
		return fmt.Errorf("pgbench: not all of %s transactions succeeded: %s", want, strings.TrimSpace(out))
	}
	return nil
}
