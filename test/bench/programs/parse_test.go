// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

const redisOut = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET","101010.10","0.261","0.088","0.255","0.335","0.463","1.015"
`

func TestRedis(t *testing.T) {
	got, err := parseRedis(redisOut)
	if err != nil || got.rate != 101010.10 || got.p99 != 463*time.Microsecond {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", redisOut + redisOut,
		"Error from server: OOM command not allowed\n" + redisOut,
		strings.Replace(redisOut, "rps", "other", 1),
		strings.Replace(redisOut, "0.463", "", 1),
	} {
		if got, err := parseRedis(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

const wrkOut = `Running 2m test @ http://10.63.1.3:80/1k
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.14ms  117.40us   5.18ms   88.44%
    Req/Sec    43.60k   598.21    45.86k   100.00%
  Latency Distribution
     50%   39.00us
     75%   65.00us
     90%  209.22us
     99%    1.34ms
  52300 requests in 1.20s, 64.55MB read
Requests/sec:  43583.33
Transfer/sec:     53.79MB
`

func TestWrk(t *testing.T) {
	got, err := parseWrk(wrkOut)
	if err != nil || got.rate != 43583.33 || got.p99 != 1340*time.Microsecond || got.count != 52300 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "unable to connect to 10.63.1.3:80 Connection refused\n",
		strings.Replace(wrkOut, "Requests/sec",
			"  Socket errors: connect 0, read 0, write 0, timeout 1\nRequests/sec", 1),
		strings.Replace(wrkOut, "Requests/sec", "  Non-2xx or 3xx responses: 3\nRequests/sec", 1),
	} {
		if got, err := parseWrk(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

const pgbenchOut = `pgbench (15.14 (Debian 15.14-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 5
query mode: simple
number of clients: 16
number of threads: 1
maximum number of tries: 1
number of transactions per client: 100
number of transactions actually processed: 1600/1600
number of failed transactions: 0 (0.000%)
latency average = 0.800 ms
initial connection time = 20.114 ms
tps = 20003.750703 (without initial connection time)
`

func TestPgbench(t *testing.T) {
	if err := checkPgbench(pgbenchOut, 1600); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"", strings.Replace(pgbenchOut, "1600/1600", "1599/1600", 1),
		strings.Replace(pgbenchOut, "transactions: 0", "transactions: 1", 1),
	} {
		if checkPgbench(bad, 1600) == nil {
			t.Errorf("%q is taken for a success", bad)
		}
	}
	if checkPgbench(pgbenchOut, 3200) == nil {
		t.Error("half of the transactions are taken for all")
	}
}

func TestOnlySteadyTransactionsCount(t *testing.T) {
	// Both clients begin slowly, then take a millisecond each; client 1 continues alone.
	var log strings.Builder
	for i := range 100 {
		fmt.Fprintf(&log, "0 %d 1000 0 1700000000 %06d\n1 %d 1000 0 1700000000 %06d\n", i, 100_000+i*1000, i,
			100_000+i*1000)
	}
	log.WriteString("0 0 90000 0 1700000000 090000\n1 100 700000 0 1700000001 500000\n")
	all, err := parseTransactions(log.String())
	if err != nil || len(all) != 202 {
		t.Fatalf("%d transactions, %v", len(all), err)
	}
	got, err := steady(all)
	if err != nil || got.p99 != time.Millisecond || got.rate < 1900 || got.rate > 2100 || got.count < 150 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := steady(nil); err == nil {
		t.Error("nothing has a rate")
	}
	for _, bad := range []string{"0 1 2\n", "0 1 x 0 1 1\n"} {
		if _, err := parseTransactions(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestCaughtSignals(t *testing.T) {
	if status := "SigIgn:\t0000000000000000\nSigCgt:\t0000000000000002\n"; !catches(status, syscall.SIGINT) ||
		catches(status, syscall.SIGTERM) {
		t.Error("SigCgt 2 is SIGINT and nothing else")
	}
	if catches("", syscall.SIGINT) {
		t.Error("nothing is known of a process that has ended")
	}
}
