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

// serve makes one call by skel. Nothing is written to standard output but the answer to VERSION: finish
// writes the result or the error, so there is always exactly one document.
func (h *handler) serve(verb string) *types.Error {
	return h.recoverPanic(func() *types.Error { return h.dispatch(verb) })
}

// recoverPanic makes an error of a panic, which would end the process without any answer.
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
			return errorWithCode(fmt.Errorf("hand the configuration on: %w", err))
		}
		// skel wants it. The specification calls it optional for ADD, DEL and CHECK, and nothing here uses
		// it.
		if os.Getenv("CNI_PATH") == "" {
			os.Setenv("CNI_PATH", "/opt/cni/bin")
		}
	}
	funcs := h.funcs()
	if stub.Self() { // only now, as it opens a file
		funcs = h.stubFuncs()
	}
	return h.dropLateNetNSError(verb, skel.PluginMainFuncsWithError(funcs, supported, "CNI plugin sockmap "+version.String()))
}

// readStdin reads standard input before skel does: skel's own errors must carry the request's cniVersion,
// too.
func readStdin() ([]byte, error) {
	return io.ReadAll(os.Stdin)
}

// provideStdin makes config standard input again, for skel. It needs two more descriptors for a moment. The
// pipe is not one of package os, which would make an epoll descriptor for it.
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

// cniVersionOf finds the version even in what cannot be decoded to its end. It is empty where there is none.
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
			json.Unmarshal(value, &found) // what is no text is no version
		}
	}
	return found
}

// checkDescriptors makes sure that there are as many file descriptors left as a call needs at least that
// loads nothing. The Go runtime ends the process without any answer when it finds none for itself.
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
			return nil // standard error is closed, so nothing can be said
		}
		if err != nil {
			return fmt.Errorf("%d more are needed, %d are left: %w", enough, len(spare), err)
		}
		spare = append(spare, fd)
	}
	return nil
}

// failWithoutDescriptors answers a call that cannot even begin. No container fails over it, unless acceleration
// is required.
func (h *handler) failWithoutDescriptors(verb string, config []byte, err error) *types.Error {
	conf, _ := cniconf.ParseLenient(config)
	failed := errorWithCode(err)
	if verb == "ADD" && !conf.Required && conf.PrevResult != nil {
		h.logger(nil, nil).Warn("not accelerated", "reason", failed.Msg)
		h.setResult(conf)
		return nil
	}
	return failed // that of a DEL is not told either, see spared
}

// setResult makes the result of the plugins before the answer of this call, as it is, unless it is in the format
// of another version than the request: the specification wants that of the request.
func (h *handler) setResult(conf *cniconf.Conf) {
	h.result = conf.PrevResult
	was := cniVersionOf(conf.PrevResult)
	if was == "" || was == conf.CNIVersion {
		return // runtimes take a result without a version for one of the request's
	}
	converted, err := convert(conf.PrevResult, was, conf.CNIVersion)
	if err != nil {
		h.logger(nil, nil).Warn("prevResult is passed on in its own cniVersion, not in that of the request", "version", was, "error", err)
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

// dropLateNetNSError drops an error that skel came upon after an ADD had been made: it asks once more whether CNI_NETNS
// is the host's, which the handler has done. When it cannot tell, the container has its answer all the same.
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
