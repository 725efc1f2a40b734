// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	cniversion "github.com/containernetworking/cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"golang.org/x/sys/unix"
)

// serve handles one call with skel. Only the answer to VERSION is written to standard output here; finish
// writes the result or the error. So there is always exactly one document.
func (h *handler) serve(verb string) *types.Error {
	return h.recoverPanic(func() *types.Error { return h.dispatch(verb) })
}

// recoverPanic converts a panic, which would end the process without a result, to an error.
func (h *handler) recoverPanic(f func() *types.Error) (failed *types.Error) {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintf(h.stderr, "panic: %v\n%s", reason, debug.Stack())
			failed = types.NewError(types.ErrInternal, fmt.Sprintf("panic: %v", reason), "")
		}
	}()
	return f()
}

func (h *handler) dispatch(verb string) *types.Error {
	if verb != "" && verb != "VERSION" {
		config, err := readStdin()
		if err != nil {
			return errorWithCode(fmt.Errorf("read configuration: %w", err))
		}
		h.cniVersion = cniVersionOf(config)
		if err := checkDescriptors(); err != nil {
			return h.failWithoutDescriptors(verb, config, err)
		}
		if err := provideStdin(config); err != nil {
			return errorWithCode(fmt.Errorf("pass the configuration to skel: %w", err))
		}
		// skel requires it. The specification calls it optional for ADD, DEL and CHECK, and nothing here uses
		// it.
		if os.Getenv("CNI_PATH") == "" {
			os.Setenv("CNI_PATH", "/opt/cni/bin")
		}
	}
	funcs := h.funcs()
	if stub.Self() { // only now, as it opens a file
		funcs = h.stubFuncs()
	}
	return h.dropLateNetNSError(verb, skel.PluginMainFuncsWithError(funcs, supported,
		"CNI plugin sockmap "+version.String()))
}

// readStdin reads standard input before skel does, because skel's own errors must carry the cniVersion of the
// request.
func readStdin() ([]byte, error) {
	return io.ReadAll(os.Stdin)
}

// provideStdin provides config as standard input for skel. It needs two more descriptors for a moment. The
// pipe is not one of package os, which would create an epoll descriptor for it.
func provideStdin(config []byte) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	read, write := pipe[0], os.NewFile(uintptr(pipe[1]), "configuration")
	err := unix.Dup3(read, int(os.Stdin.Fd()), 0)
	unix.Close(read)
	if err != nil {
		write.Close()
		return err
	}
	go func() { // a configuration may be larger than the pipe's buffer
		defer write.Close()
		write.Write(config)
	}()
	return nil
}

// cniVersionOf finds the version, even in text that cannot be decoded to its end. It returns "" if there is
// none.
func cniVersionOf(config []byte) (found string) {
	d := json.NewDecoder(bytes.NewReader(config))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return found
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return found
		}
		if key == "cniVersion" {
			json.Unmarshal(value, &found) // a value that is not a string is no version
		}
	}
	return found
}

// checkDescriptors makes sure that enough file descriptors are available for a call that loads nothing. The
// Go runtime ends the process without a result if it finds none for itself.
func checkDescriptors() error {
	const enough = 16
	var spare []int
	defer func() {
		for _, fd := range spare {
			unix.Close(fd)
		}
	}()
	for range enough {
		fd, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, 3)
		if err == unix.EBADF {
			return nil // standard error is closed, so the check is not possible
		}
		if err != nil {
			return fmt.Errorf("%d more are needed, %d are left: %w", enough, len(spare), err)
		}
		spare = append(spare, fd)
	}
	return nil
}

// failWithoutDescriptors handles a call that cannot begin. An ADD succeeds without acceleration, unless it is
// required.
func (h *handler) failWithoutDescriptors(verb string, config []byte, err error) *types.Error {
	conf, _ := cniconf.ParseLenient(config)
	failed := errorWithCode(err)
	if verb == "ADD" && !conf.Required && conf.PrevResult != nil {
		h.logger(nil, nil).Warn("not accelerated", "reason", failed.Msg)
		h.setResult(conf)
		return nil
	}
	return failed // for DEL see suppressDELError
}

// setResult makes prevResult the result of this call. It stays as it is, unless its version differs from that
// of the request, which the specification asks for.
func (h *handler) setResult(conf *cniconf.Conf) {
	h.result = conf.PrevResult
	was := cniVersionOf(conf.PrevResult)
	if was == "" || was == conf.CNIVersion {
		return // without a version, runtimes assume that of the request
	}
	converted, err := convert(conf.PrevResult, was, conf.CNIVersion)
	if err != nil {
		h.logger(nil, nil).Warn("prevResult is passed on in its own cniVersion, not in that of the request",
			"version", was, "error", err)
		return
	}
	h.result = converted
}

func convert(result []byte, from, to string) ([]byte, error) {
	decoded, err := cniversion.NewResult(from, result)
	if err != nil {
		return nil, err
	}
	converted, err := decoded.GetAsVersion(to)
	if err != nil {
		return nil, err
	}
	return json.Marshal(converted)
}

// dropLateNetNSError drops an error of skel after a successful ADD: skel checks once more that CNI_NETNS is
// not the host's, which the handler has checked. If skel cannot check it, the ADD has succeeded nevertheless.
func (h *handler) dropLateNetNSError(verb string, failed *types.Error) *types.Error {
	if failed == nil || verb != "ADD" || h.result == nil {
		return failed
	}
	if !strings.HasPrefix(failed.Msg, "get plugin's netns failed") {
		return failed
	}
	h.logger(nil, nil).Debug("skel could not look at the network namespace again", "error", failed)
	return nil
}
