// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// flowView is one live socket. Counts are of what it sent.
type flowView struct {
	Local              netip.AddrPort `json:"local" doc:"address and port of this end"`
	Remote             netip.AddrPort `json:"remote" doc:"address and port of the other end, as this end sees it"`
	Namespace          string         `json:"namespace" doc:"of the pod; empty when there is none"`
	Pod                string         `json:"pod" doc:"empty when there is none"`
	Container          string         `json:"container" doc:"id of the container sandbox; empty when it is not known"`
	NetNSCookie        uint64         `json:"netnsCookie" doc:"of the network namespace"`
	PeerNamespace      string         `json:"peerNamespace" doc:"of the other end, once it has joined; see namespace"`
	PeerPod            string         `json:"peerPod" doc:"see pod"`
	PeerContainer      string         `json:"peerContainer" doc:"see container"`
	PeerNetNSCookie    uint64         `json:"peerNetnsCookie" doc:"0: not known"`
	Role               string         `json:"role" doc:"active (it called connect) or passive"`
	Joined             bool           `json:"joined" doc:"the other end is in the sockhash too"`
	Mode               string         `json:"mode" doc:"how its last message went: redirect or tcp; pending before the first; left: out of the sockhash for good, plain TCP"`
	Reason             string         `json:"reason" doc:"why by TCP, or why it has left, see METRICS.md; empty in other modes"`
	RedirectedBytes    uint64         `json:"redirectedBytes" doc:"sent from socket to socket"`
	RedirectedMessages uint64         `json:"redirectedMessages" doc:"calls of send that made them"`
	TCPBytes           uint64         `json:"tcpBytes" doc:"sent by TCP, without retransmissions"`
	TCPMessages        uint64         `json:"tcpMessages" doc:"calls of send that made them"`
	BacklogBytes       uint32         `json:"backlogBytes" doc:"received and not yet read, as the kernel charges it"`
	TCPState           uint8          `json:"tcpState" doc:"number of the TCP state, 1 is ESTABLISHED"`
	AgeSeconds         float64        `json:"ageSeconds" doc:"since the connection was made"`
	SocketCookie       uint64         `json:"socketCookie" doc:"SO_COOKIE, as ss -e shows it; 0: nobody has asked for it yet"`
	Rate               *rateView      `json:"rate,omitempty" doc:"only with --watch: since the list before"`

	key    datapath.FlowKey
	labels [2]string // of this end's and the other end's owner, for the table
}

// rateView is what one socket sent in a second.
type rateView struct {
	RedirectedBytes float64 `json:"redirectedBytesPerSecond" doc:"sent from socket to socket"`
	TCPBytes        float64 `json:"tcpBytesPerSecond" doc:"sent by TCP"`
	Messages        float64 `json:"messagesPerSecond" doc:"calls of send"`
}

func (r rateView) bytes() float64 { return r.RedirectedBytes + r.TCPBytes }

func (a *app) flows() ([]flowView, error) {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	own, err := readOwners(d)
	if err != nil {
		return nil, err
	}
	live, err := readFlows(d)
	if err != nil {
		return nil, err
	}
	return newFlowViews(live, own), nil
}

func newFlowViews(live []datapath.Flow, own owners) []flowView {
	netns := make(map[datapath.FlowKey]uint64, len(live))
	for _, f := range live {
		netns[f.Key] = f.NetNS
	}
	label := own.labels()
	flows := make([]flowView, 0, len(live))
	for _, f := range live {
		// An active end learns who joined when it first sends. The list knows already.
		if f.PeerNetNS == 0 {
			f.PeerNetNS = netns[f.Key.Mirror()]
		}
		flows = append(flows, newFlowView(f, own, label))
	}
	return flows
}

func newFlowView(f datapath.Flow, own owners, label func(uint64) string) flowView {
	this, peer := own[f.NetNS], own[f.PeerNetNS]
	v := flowView{
		Local: f.Local, Remote: f.Remote, Role: f.Role.String(), Joined: f.Joined, Mode: f.Now().String(),
		Namespace: this.namespace, Pod: this.pod, Container: this.container, NetNSCookie: f.NetNS,
		PeerNamespace: peer.namespace, PeerPod: peer.pod, PeerContainer: peer.container, PeerNetNSCookie: f.PeerNetNS,
		RedirectedBytes: f.RedirectedBytes, RedirectedMessages: f.RedirectedMessages,
		TCPBytes: f.TCPBytes, TCPMessages: f.TCPMessages, BacklogBytes: f.BacklogBytes,
		TCPState: f.State, key: f.Key, AgeSeconds: f.Age.Seconds(), SocketCookie: f.Cookie,
		labels: [2]string{label(f.NetNS), label(f.PeerNetNS)},
	}
	// What made it leave redirection is history once it is back.
	if f.Mode == datapath.ModeTCP {
		v.Reason = f.Reason.String()
	}
	return v
}
