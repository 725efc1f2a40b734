// SPDX-License-Identifier: Apache-2.0

package main

import (
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
		strings.Replace(wrkOut, "Requests/sec", "  Socket errors: connect 0, read 0, write 0, timeout 1\nRequests/sec", 1),
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
	got, err := parsePgbench(pgbenchOut, 1600)
	if err != nil || got.rate != 20003.750703 || got.count != 1600 || got.p99 != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", strings.Replace(pgbenchOut, "1600/1600", "1599/1600", 1), strings.Replace(pgbenchOut, "transactions: 0", "transactions: 1", 1),
	} {
		if got, err := parsePgbench(bad, 1600); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
	if _, err := parsePgbench(pgbenchOut, 3200); err == nil {
		t.Error("half of the transactions are taken for all")
	}
}

func TestCaughtSignals(t *testing.T) {
	if status := "SigIgn:\t0000000000000000\nSigCgt:\t0000000000000002\n"; !catches(status, syscall.SIGINT) || catches(status, syscall.SIGTERM) {
		t.Error("SigCgt 2 is SIGINT and nothing else")
	}
	if catches("", syscall.SIGINT) {
		t.Error("nothing is known of a process that has ended")
	}
}
