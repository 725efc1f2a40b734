// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// These programs have a client, and some also a server, in peer/. The clients check each answer themselves.

const (
	grpcPort      = 50051
	memcachedPort = 11211
	batchesPort   = 9092
)

func grpc() program {
	return program{
		name:  "grpc",
		start: func(ctx context.Context, s *side) error { return s.servePeer(ctx, "grpc-serve", grpcPort) },
		check: answers("grpc-unary", grpcPort),
		cells: []cell{
			{name: "grpc unary 32", note: "32 callers on one connection, 64 B",
				client: peer("grpc-unary", grpcPort, 32)},
			{name: "grpc stream", note: "one message of 64 B at a time", client: peer("grpc-stream", grpcPort, 1)},
		},
	}
}

func memcached() program {
	return program{
		name: "memcached",
		start: func(ctx context.Context, s *side) error {
			return s.serve(ctx, spec{where: s.pods.Server, end: syscall.SIGTERM, args: []string{
				"memcached", "-u", "nobody", "-l", "0.0.0.0", "-p", strconv.Itoa(memcachedPort), "-U", "0", "-t", "1",
				"-m", "64"}})
		},
		check: answers("memcached", memcachedPort),
		cells: []cell{{name: "memcached get 32", two: true, note: "values of 100 B",
			client: peer("memcached", memcachedPort, 32)}},
	}
}

func batches() program {
	return program{
		name:  "batches",
		start: func(ctx context.Context, s *side) error { return s.servePeer(ctx, "batches-serve", batchesPort) },
		check: answers("batches", batchesPort),
		cells: []cell{{
			name: "large batches", note: "1 MiB and an acknowledgement of 16 B in turn, 4 connections",
			client: peer("batches", batchesPort, 4),
		}},
	}
}

func (s *side) servePeer(ctx context.Context, mode string, port int) error {
	return s.serve(ctx, spec{where: s.pods.Server, end: syscall.SIGTERM, args: []string{
		s.bench.peer, mode, "-address", s.at(uint16(port))}})
}

func peer(mode string, port uint16, connections int) func(context.Context, *side, load) (sample, error) {
	return func(ctx context.Context, s *side, l load) (sample, error) {
		out, err := s.client(ctx, l.cpu, s.bench.peer, mode, "-address", s.at(port), "-connections",
			strconv.Itoa(connections),
			"-duration", l.duration.String())
		if err != nil {
			return sample{}, err
		}
		var r struct {
			Operations   int
			Seconds, P99 float64
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Seconds <= 0 {
			return sample{}, fmt.Errorf("peer %s printed %q: %w", mode, out, err)
		}
		return sample{rate: float64(r.Operations) / r.Seconds, p99: time.Duration(r.P99), count: r.Operations}, nil
	}
}

// answers reports whether a server answers at all.
func answers(mode string, port uint16) func(context.Context, *side) error {
	client := peer(mode, port, 1)
	return func(ctx context.Context, s *side) error {
		_, err := client(ctx, s, load{cpu: serverCPU, duration: 200 * time.Millisecond})
		return err
	}
}
