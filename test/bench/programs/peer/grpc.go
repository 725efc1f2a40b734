// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// messageBytes is the size of each request and answer.
const messageBytes = 64

const (
	unaryMethod  = "/bench.Echo/Unary"
	streamMethod = "/bench.Echo/Stream"
)

// raw does not encode messages, because the transport is measured, and so no code needs to be generated.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data) // the buffer is reused
	return nil
}

// echo is a service with one call and one stream, both of which return the request.
var echo = grpc.ServiceDesc{
	ServiceName: "bench.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, _ context.Context,
		decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var message []byte
		err := decode(&message)
		return &message, err
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, s grpc.ServerStream) error {
			for { // until the client ends it
				var message []byte
				if err := s.RecvMsg(&message); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := s.SendMsg(&message); err != nil {
					return err
				}
			}
		}}},
}

func serveGRPC(ctx context.Context, o options) error {
	l, err := net.Listen("tcp", o.address)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	s.RegisterService(&echo, struct{}{})
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

func dialGRPC(o options) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+o.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.WaitForReady(true)))
}

// callUnary has many callers on one connection, as programs that share a channel.
func callUnary(ctx context.Context, o options) (report, error) {
	c, err := dialGRPC(o)
	if err != nil {
		return report{}, err
	}
	defer c.Close()
	var calls []exchange
	for i := range o.connections {
		next := numbered(i)
		calls = append(calls, func(ctx context.Context) error {
			request, answer := next(), []byte(nil)
			if err := c.Invoke(ctx, unaryMethod, &request, &answer); err != nil {
				return fmt.Errorf("call: %w", err)
			}
			return same(request, answer)
		})
	}
	return load(ctx, o.duration, calls)
}

// callStream has one message at a time on each stream.
func callStream(ctx context.Context, o options) (report, error) {
	c, err := dialGRPC(o)
	if err != nil {
		return report{}, err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx) // which ends the streams
	defer cancel()
	var calls []exchange
	for i := range o.connections {
		s, err := c.NewStream(ctx, &echo.Streams[0], streamMethod)
		if err != nil {
			return report{}, fmt.Errorf("open stream: %w", err)
		}
		next := numbered(i)
		calls = append(calls, func(context.Context) error {
			request, answer := next(), []byte(nil)
			if err := s.SendMsg(&request); err != nil {
				return fmt.Errorf("send on stream: %w", err)
			}
			if err := s.RecvMsg(&answer); err != nil {
				return fmt.Errorf("receive from stream: %w", err)
			}
			return same(request, answer)
		})
	}
	return load(ctx, o.duration, calls)
}

// numbered makes messages that differ.
func numbered(caller int) func() []byte {
	var n uint64
	return func() []byte {
		n++
		b := make([]byte, messageBytes)
		binary.LittleEndian.PutUint64(b, n)
		binary.LittleEndian.PutUint64(b[messageBytes-8:], uint64(caller))
		return b
	}
}

func same(request, answer []byte) error {
	if !bytes.Equal(request, answer) {
		return fmt.Errorf("asked %x, was answered %x", request, answer)
	}
	return nil
}
