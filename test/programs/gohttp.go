// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
)

// goServe is a server in Go: ADDRESS DIRECTORY.
func goServe(args []string) error {
	return http.ListenAndServe(args[0], http.FileServer(http.Dir(args[1])))
}

// goGet gets a URL several times on one connection, and prints the hash of each body: URL TIMES.
func goGet(ctx context.Context, out io.Writer, args []string) error {
	times, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range times {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%x\n", sum.Sum(nil))
	}
	return nil
}

// goVersion is the version of Go that built this program, in the form in which others print theirs.
func goVersion() string { return strings.TrimPrefix(runtime.Version(), "go") }
