// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// Go programs: this program again, in a role, with its own connections.

// goListen listens with the defaults of Go, which since Go 1.24 include MPTCP, or without MPTCP.
func goListen(address string, mptcp bool) (net.Listener, error) {
	var lc net.ListenConfig
	if !mptcp {
		lc.SetMultipathTCP(false)
	}
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err == nil {
		fmt.Println("listening")
	}
	return l, err
}

// goServe MODE ADDRESS [SIZE] serves until it is killed.
func goServe(args []string) error {
	mode, size := args[0], 0
	if len(args) > 2 {
		size, _ = strconv.Atoi(args[2])
	}
	l, err := goListen(args[1], mode == "echo-mptcp")
	if err != nil {
		return err
	}
	if mode == "http" {
		return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, _ = w.Write(pattern(size, uint64(size)))
		}))
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if mode == "blob" {
				_, _ = bufio.NewReader(c).ReadString('\n')
				_, _ = c.Write(pattern(size, uint64(size)))
				return
			}
			_, _ = io.Copy(onlyWriter{c}, onlyReader{c})
		}()
	}
}

// goDial MODE ADDRESS SIZE is the client. It prints the bytes that it has received.
func goDial(args []string) error {
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if args[0] == "http" {
		return httpGet(args[1])
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", args[1])
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	switch args[0] {
	case "echo":
		go func() {
			_, _ = c.Write(pattern(size, uint64(size)))
			_ = c.CloseWrite()
		}()
	case "header-echo":
		go func() {
			_, _ = c.Write(append([]byte("0123456789abcdef"), pattern(size, uint64(size))...))
			_ = c.CloseWrite()
		}()
	case "get", "slow-get":
		fmt.Fprintln(c, "GET")
	case "slow-http":
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	}
	_ = c.SetReadDeadline(time.Now().Add(suite.ChildScaled(6 * time.Second)))
	got, err := readAtPace(c, strings.HasPrefix(args[0], "slow"))
	if args[0] == "slow-http" {
		_, body, _ := strings.Cut(string(got), "\r\n\r\n")
		got = []byte(body)
	}
	fmt.Println(suite.Text(got), said(err))
	return nil
}

// readAtPace reads to the end; if it must be slow, in small pieces with pauses.
func readAtPace(r io.Reader, slow bool) (got []byte, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if slow {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func httpGet(address string) error {
	client := http.Client{Timeout: suite.ChildScaled(6 * time.Second)}
	for range 3 {
		r, err := client.Post("http://"+address+"/", "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
		if err != nil {
			fmt.Println(said(err))
			return nil
		}
		got, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		fmt.Println(r.StatusCode, suite.Text(got), said(err))
	}
	return nil
}

// goProxy MODE ADDRESS BACKEND copies both ways by io.Copy. In mode header it reads 16 bytes first.
func goProxy(args []string) error {
	l, err := goListen(args[1], false)
	if err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := proxyOne(in.(*net.TCPConn), args[2], args[0] == "header"); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
}

func proxyOne(in *net.TCPConn, backend string, header bool) error {
	defer in.Close()
	if header {
		if _, err := io.ReadFull(in, make([]byte, 16)); err != nil {
			return err
		}
	}
	conn, err := net.Dial("tcp", backend)
	if err != nil {
		return err
	}
	out := conn.(*net.TCPConn)
	defer out.Close()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, in)
		_ = out.CloseWrite()
		done <- err
	}()
	if _, err := io.Copy(in, out); err != nil {
		return err
	}
	_ = in.CloseWrite()
	return <-done
}
