// SPDX-License-Identifier: Apache-2.0

// Runtime does what a container runtime does for the network of its pods, with the same library.
//
//	runtime crio|containerd|cri-dockerd SETUP   handles requests, one line of JSON each, until its input ends
//	runtime nerdctl SETUP FILE                  is the OCI hook createRuntime and leaves a reply in FILE
//
// SETUP is JSON, an ask.Setup. It must be started in the network namespace and the cgroup of the node's
// runtime.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
)

// patience bounds one request.
const patience = time.Minute

// A runtime handles requests.
type runtime interface {
	do(ctx context.Context, r ask.Request) ([]string, error)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runtime:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: runtime crio|containerd|cri-dockerd SETUP | runtime nerdctl SETUP FILE")
	}
	var s ask.Setup
	if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
		return fmt.Errorf("parse setup: %w", err)
	}
	if args[0] == "nerdctl" && len(args) == 3 {
		return nerdctl(s, os.Stdin, args[2])
	}
	start := map[string]func(ask.Setup) (runtime, error){
		"crio": newCRIO, "containerd": newContainerd, "ctr": newCtr, "cri-dockerd": newDockerd,
	}[args[0]]
	if start == nil {
		return fmt.Errorf("unknown runtime %q", args[0])
	}
	rt, err := start(s)
	if err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	return answer(rt, os.Stdin, os.Stdout)
}

func answer(rt runtime, in io.Reader, out io.Writer) error {
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r ask.Request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if err := replies.Encode(reply(rt, r)); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
	}
}

func reply(rt runtime, r ask.Request) ask.Reply {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ips, err := rt.do(ctx, r)
	if err != nil {
		return ask.Reply{Error: err.Error()}
	}
	return ask.Reply{IPs: ips}
}

func unknown(r ask.Request) error { return fmt.Errorf("this runtime does not %s", r.Verb) }
