// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/ownfile"
	"golang.org/x/sys/unix"
)

// logger returns the log of one call, which goes to standard error or logFile. Standard output is for the
// result. conf and args may be nil.
func (h *handler) logger(conf *cniconf.Conf, args *skel.CmdArgs) *slog.Logger {
	var (
		out     io.Writer = h.stderr
		level             = slog.LevelInfo
		failure error
	)
	if conf != nil {
		level = conf.LogLevel
		if conf.LogFile != "" {
			if file, err := openLog(conf.LogFile); err != nil {
				failure = err
			} else {
				out = file // closed when the process ends, soon
			}
		}
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	if conf != nil {
		log = log.With("network", conf.Name)
	}
	if args != nil && args.ContainerID != "" {
		log = log.With("container", args.ContainerID, "ifname", args.IfName)
	}
	if args != nil {
		// ADD logs the warnings about CNI_ARGS, once.
		if pod, _ := cniconf.ParseArgs(args.Args); pod.PodName != "" {
			log = log.With("pod", pod.PodNamespace+"/"+pod.PodName)
		}
	}
	if failure != nil {
		log.Warn("log to standard error instead of logFile", "error", failure)
	}
	return log
}

// openLog opens the file for appending: many processes share it, and each record is one write. Others may
// read it, as they read rotated logs, but must not have prepared it.
func openLog(path string) (io.Writer, error) {
	f, err := ownfile.Open(path, os.O_WRONLY|os.O_APPEND, ownfile.Demand{Forbidden: 0o022})
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return nonBlockingFile{raw, f}, nil
}

// nonBlockingFile writes to a file without waiting: otherwise a FIFO whose reader does not read would hang
// every container of the node. Text for which the FIFO has no room is discarded.
type nonBlockingFile struct {
	raw  syscall.RawConn
	file *os.File // keeps the descriptor open as long as the writer exists
}

func (w nonBlockingFile) Write(p []byte) (n int, err error) {
	// Control returns at once, unlike File.Write and RawConn.Write, which wait for room.
	if failed := w.raw.Control(func(fd uintptr) { n, err = unix.Write(int(fd), p) }); failed != nil {
		return 0, failed
	}
	if errors.Is(err, unix.EAGAIN) {
		return len(p), nil
	}
	return max(n, 0), err
}

// logWarnings logs what was wrong with an input but was accepted.
func logWarnings(log *slog.Logger, from string, texts []string) {
	for _, text := range texts {
		log.Warn(text, "from", from)
	}
}
