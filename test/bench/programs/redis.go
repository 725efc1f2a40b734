// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// redisKey is the key that redis-benchmark gets.
const redisKey = "key:__rand_int__"

func redis() program {
	return program{
		name: "redis",
		start: func(ctx context.Context, s *side) error {
			return s.serve(ctx, spec{where: s.pods.Server, end: syscall.SIGKILL, args: []string{
				"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no",
				"--dir", s.dir}})
		},
		check: checkRedis,
		cells: []cell{
			{name: "redis GET -c 1", goal: 1.3, client: redisBenchmark("get", 1, 1)},
			{name: "redis GET -c 50", goal: 1.7, two: true, client: redisBenchmark("get", 50, 1)},
			{name: "redis GET -c 50 -P 16", goal: 1.6, client: redisBenchmark("get", 50, 16)},
			{name: "redis SET -c 50", client: redisBenchmark("set", 50, 1)},
		},
	}
}

func redisBenchmark(test string, connections, pipeline int) func(
	context.Context, *side, load) (sample, error) {
	return func(ctx context.Context, s *side, l load) (sample, error) {
		out, err := s.client(ctx, l.cpu, "redis-benchmark", "-h", s.pods.Server.IP4().String(), "-t", test, "-n",
			strconv.Itoa(l.count),
			"-c", strconv.Itoa(connections), "-P", strconv.Itoa(pipeline), "--csv", "-e")
		if err != nil {
			return sample{}, err
		}
		got, err := parseRedis(out)
		got.count = l.count
		return got, err
	}
}

// checkRedis checks the server's own statistics, because redis-benchmark does not check the answers: no
// command was refused, and every GET found its key.
func checkRedis(ctx context.Context, s *side) error {
	cli := func(args ...string) (string, error) {
		return s.client(ctx, serverCPU, append([]string{"redis-cli", "-h", s.pods.Server.IP4().String(), "--raw"},
			args...)...)
	}
	if out, err := cli("set", redisKey, "abc"); err != nil || out != "OK\n" {
		return fmt.Errorf("set: answered %q: %w", out, err)
	}
	if out, err := cli("get", redisKey); err != nil || out != "abc\n" {
		return fmt.Errorf("get: answered %q: %w", out, err)
	}
	stats, err := cli("info", "stats")
	if err != nil {
		return err
	}
	for _, want := range []string{"total_error_replies:0\r\n", "keyspace_misses:0\r\n"} {
		if !strings.Contains(stats, want) {
			return fmt.Errorf("info stats has no %q: %s", want, stats)
		}
	}
	return nil
}
