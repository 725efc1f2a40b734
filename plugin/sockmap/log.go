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

// logger returns the log of one call, which is standard error or logFile, and never standard output: that one is
// the result. conf and args may be nil.
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
				out = file // closed by the end of the process, which is near
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
		// The warnings about CNI_ARGS are logged by ADD, once.
		if pod, _ := cniconf.ParseArgs(args.Args); pod.PodName != "" {
			log = log.With("pod", pod.PodNamespace+"/"+pod.PodName)
		}
	}
	if failure != nil {
		log.Warn("log to standard error instead of logFile", "error", failure)
	}
	return log
}

// openLog appends: many processes share the file, and each record is one write. Others may read it, as rotated logs are, but must
// not have prepared it.
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

// nonBlockingFile writes to a file without waiting: a FIFO whose reader does not read would hang every container of the node. What has no
// room is lost.
type nonBlockingFile struct {
	raw  syscall.RawConn
	file *os.File // stays open as long as the writer is there
}

func (w nonBlockingFile) Write(p []byte) (n int, err error) {
	// Control, unlike File.Write and RawConn.Write, does not come back when there is room.
	if failed := w.raw.Control(func(fd uintptr) { n, err = unix.Write(int(fd), p) }); failed != nil {
		return 0, failed
	}
	if errors.Is(err, unix.EAGAIN) {
		return len(p), nil
	}
	return max(n, 0), err
}

// logWarnings logs what was lenient about the input.
func logWarnings(log *slog.Logger, from string, texts []string) {
	for _, text := range texts {
		log.Warn(text, "from", from)
	}
}
