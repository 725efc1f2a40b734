// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

const (
	batchBytes = 1 << 20
	// A batch begins with its number and the checksum of the rest. Its acknowledgement has the same two.
	batchHead = 16
)

// Kafka has the same checksum in each batch.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// serveBatches reads batches and acknowledges each.
func serveBatches(ctx context.Context, o options) error {
	l, err := net.Listen("tcp", o.address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	var all sync.WaitGroup
	defer all.Wait()
	for { // until the context ends
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		all.Go(func() {
			defer stop()
			defer c.Close()
			// The client notices that its batch is not acknowledged; the output has the reason.
			if err := takeBatches(c); err != nil && ctx.Err() == nil {
				fmt.Println("broker:", err)
			}
		})
	}
}

func takeBatches(c net.Conn) error {
	b := make([]byte, batchBytes)
	for n := uint64(1); ; n++ { // until the client ends it
		if _, err := io.ReadFull(c, b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("batch %d: %w", n, err)
		}
		if got := binary.LittleEndian.Uint64(b); got != n {
			return fmt.Errorf("batch %d calls itself %d", n, got)
		}
		if sum := crc32.Checksum(b[batchHead:], castagnoli); uint64(sum) != binary.LittleEndian.Uint64(b[8:]) {
			return fmt.Errorf("batch %d has other bytes than those that were sent", n)
		}
		if _, err := c.Write(b[:batchHead]); err != nil {
			return fmt.Errorf("acknowledge batch %d: %w", n, err)
		}
	}
}

// sendBatches sends one batch at a time on each connection.
func sendBatches(ctx context.Context, o options) (report, error) {
	var sends []exchange
	for i := range o.connections {
		c, err := dial(ctx, o.address)
		if err != nil {
			return report{}, err
		}
		defer c.Close()
		sends = append(sends, newSend(c, byte(i)))
	}
	return load(ctx, o.duration, sends)
}

func newSend(c net.Conn, seed byte) exchange {
	b, ack := make([]byte, batchBytes), make([]byte, batchHead)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	var n uint64
	return func(context.Context) error {
		n++
		// As in a producer, the sum is computed for each batch, and no two batches are equal.
		binary.LittleEndian.PutUint64(b, n)
		binary.LittleEndian.PutUint64(b[batchHead:], n)
		binary.LittleEndian.PutUint64(b[8:], uint64(crc32.Checksum(b[batchHead:], castagnoli)))
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("send batch %d: %w", n, err)
		}
		if _, err := io.ReadFull(c, ack); err != nil {
			return fmt.Errorf("wait for the acknowledgement of batch %d: %w", n, err)
		}
		return same(b[:batchHead], ack)
	}
}
