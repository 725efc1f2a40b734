// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
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
	if failure != nil {
		log.Warn("log to standard error instead of logFile", "error", failure)
	}
	return log
}

// openLog appends: many processes share the file, and each record is one write.
func openLog(path string) (*os.File, error) {
	// O_NONBLOCK: a FIFO that nobody reads would hang every container of the node.
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
}

// warnings logs what was lenient about the input.
func warnings(log *slog.Logger, from string, texts []string) {
	for _, text := range texts {
		log.Warn(text, "from", from)
	}
}
