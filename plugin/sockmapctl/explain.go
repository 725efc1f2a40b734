// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/world"
	"github.com/spf13/cobra"
)

// explainView explains a live connection, or a new one that would be made.
type explainView struct {
	Matches    int             `json:"matches" doc:"number of live connections between the two ends; 0: the explanation is for a new connection"`
	Directions []directionView `json:"directions" doc:"from SRC to DST, then from DST to SRC"`
	Socket     *explain.Socket `json:"socket" doc:"the socket that --pid and --fd name; null without them"`
}

// directionView is one direction of the connection.
type directionView struct {
	From string `json:"from" doc:"the end that sends"`
	To   string `json:"to" doc:"the end that receives"`
	explain.Explanation
}

// explainOptions are the arguments and flags of explain.
type explainOptions struct {
	source, destination string
	pid, fd             int
}

func explainCommand(a *app) *cobra.Command {
	var o explainOptions
	cmd := a.withOutput(&cobra.Command{
		Use:   "explain {SRC DST | --pid PID --fd FD}",
		Short: "Explain why a connection is redirected or not, condition by condition",
		Long: `Checks every condition that decides whether a connection is redirected, in the
order of the BPF programs, and shows which one decided and what would change the
result. A condition has passed, decided, was not reached, is not known, or is
not asked with this configuration.

SRC and DST are ADDRESS, ADDRESS:PORT, NAMESPACE/POD or NAMESPACE/POD:PORT. If
there are several live connections between the two, the youngest is explained.
If there is none, the result is a forecast from the configuration.

With --pid and --fd the connection is that of a process's socket, and the output
has the options that the program has set on it.`,
		Example: `  sockmapctl explain shop/web-0 shop/db-0:5432
  sockmapctl explain 10.1.0.2:40312 10.1.0.3:5432
  sockmapctl explain --pid 4711 --fd 12
  sockmapctl explain shop/web-0 shop/db-0 -o json | jq '.directions[0].answer'`,
	}, formatsOfObject...)
	cmd.Flags().IntVar(&o.pid, "pid", 0, "`PID` of a process")
	cmd.Flags().IntVar(&o.fd, "fd", 0, "`FD`, a descriptor of it")
	cmd.MarkFlagsRequiredTogether("pid", "fd")
	before(cmd, func() error {
		if cmd.Flags().Changed("pid") && o.pid < 1 {
			return fmt.Errorf("--pid: %d is not the number of a process", o.pid)
		}
		return nil
	})
	runs(cmd, func(cmd *cobra.Command) error {
		v, err := a.explain(cmd.Context(), &o)
		if err != nil {
			return fmt.Errorf("explain: %w", err)
		}
		if a.isDocument() {
			return a.printDocument("Explanation", v)
		}
		return a.printExplanation(v)
	})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		named := cmd.Flags().Changed("pid")
		switch {
		case named && len(args) == 0:
			return nil
		case named:
			return fmt.Errorf("unexpected argument %q: --pid and --fd name both ends", args[0])
		case len(args) != 2:
			return errors.New("it takes two ends, SRC and DST, or --pid and --fd")
		}
		o.source, o.destination = args[0], args[1]
		_, err := world.ParseTargets(args)
		return err
	}
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) (
		[]string, cobra.ShellCompDirective,
	) {
		if len(args) >= 2 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.podNames(), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return cmd
}

func (a *app) explain(ctx context.Context, o *explainOptions) (*explainView, error) {
	w, err := world.Read(ctx, a.dir, a.node(datapath.Settings{}))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if o.pid != 0 {
		return explainSocket(w, o.pid, o.fd)
	}
	targets, err := world.ParseTargets([]string{o.source, o.destination})
	if err != nil {
		return nil, err
	}
	found := w.Find(targets[0], targets[1])
	if len(found) > 0 {
		return explainFlow(w, found[0], len(found))
	}
	return explainPolicy(w, targets[0], targets[1])
}

// explainFlow explains the live socket f, together with its peer if it has joined.
func explainFlow(w *world.World, f *live.Flow, matches int) (*explainView, error) {
	facts, err := w.LiveFacts(f)
	if err != nil {
		return nil, err
	}
	return twoDirections(facts, matches), nil
}

func explainPolicy(w *world.World, source, destination world.Target) (*explainView, error) {
	facts, err := w.PolicyFacts(source, destination)
	if err != nil {
		return nil, err
	}
	return twoDirections(facts, 0), nil
}

func explainSocket(w *world.World, pid, fd int) (*explainView, error) {
	s, err := explain.ReadSocket(pid, fd)
	if err != nil {
		return nil, err
	}
	if !s.Connected {
		return nil, fmt.Errorf("descriptor %d of process %d is not connected (state %s of %s): connections "+
			"are what can be explained",
			fd, pid, live.TCPStateName(s.TCPState), s.Local)
	}
	matches := 0
	facts, err := w.SocketFacts(s, pid)
	if err != nil {
		return nil, err
	}
	if facts.Flow != nil {
		matches = 1
	}
	v := twoDirections(facts, matches)
	v.Socket = s
	return v, nil
}

// twoDirections explains the direction of the sender, and the way back.
func twoDirections(f *explain.Facts, matches int) *explainView {
	there := directionView{f.Sender.Name, f.Receiver.Name, *explain.Explain(f)}
	v := &explainView{Matches: matches, Directions: []directionView{there}}
	back := *f
	back.Sender, back.Receiver = f.Receiver, f.Sender
	back.Flow, back.Peer = f.Peer, f.Flow
	back.Socket, back.Reader = f.Reader, f.Socket
	switch f.Passive {
	case &f.Sender:
		back.Passive = &back.Receiver
	case &f.Receiver:
		back.Passive = &back.Sender
	}
	// If the other end has not joined, there are no facts about the way back.
	if (f.Flow == nil) == (f.Peer == nil) {
		v.Directions = append(v.Directions,
			directionView{back.Sender.Name, back.Receiver.Name, *explain.Explain(&back)})
	}
	return v
}
