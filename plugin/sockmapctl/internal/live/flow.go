// SPDX-License-Identifier: Apache-2.0

package live

import (
	"net/netip"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Flow is one live socket. Counts are of what it sent.
type Flow struct {
	Local              netip.AddrPort `json:"local" doc:"address and port of this end"`
	Remote             netip.AddrPort `json:"remote" doc:"address and port of the other end, as this end sees it"`
	Namespace          string         `json:"namespace" doc:"namespace of the pod; empty when there is no pod"`
	Pod                string         `json:"pod" doc:"name of the pod; empty when there is no pod"`
	Container          string         `json:"container" doc:"id of the pod sandbox; empty when it is not known"`
	NetNSCookie        uint64         `json:"netnsCookie" doc:"of the network namespace"`
	PeerNamespace      string         `json:"peerNamespace" doc:"as namespace, of the other end; empty before it has joined"`
	PeerPod            string         `json:"peerPod" doc:"as pod, of the other end"`
	PeerContainer      string         `json:"peerContainer" doc:"as container, of the other end"`
	PeerNetNSCookie    uint64         `json:"peerNetnsCookie" doc:"as netnsCookie, of the other end; 0: not known"`
	Role               string         `json:"role" doc:"active (this end called connect) or passive (accept returned it)"`
	Joined             bool           `json:"joined" doc:"the other end is in the sockhash, too"`
	Mode               string         `json:"mode" doc:"path of the last message: redirect or tcp; pending: this end has sent nothing; left: the flow has left the sockhash and is plain TCP until it is closed"`
	Reason             string         `json:"reason" doc:"why the flow uses TCP or has left, see METRICS.md; empty in the other modes"`
	RedirectedBytes    uint64         `json:"redirectedBytes" doc:"bytes that this end sent and the programs redirected"`
	RedirectedMessages uint64         `json:"redirectedMessages" doc:"calls of send that were redirected"`
	TCPBytes           uint64         `json:"tcpBytes" doc:"bytes that this end sent over TCP, without retransmissions"`
	TCPMessages        uint64         `json:"tcpMessages" doc:"calls of send that used TCP"`
	BacklogBytes       uint32         `json:"backlogBytes" doc:"bytes that this end has received and not read, as the kernel charges them"`
	TCPState           uint8          `json:"tcpState" doc:"number of the TCP state, 1 is ESTABLISHED"`
	AgeSeconds         float64        `json:"ageSeconds" doc:"time since the connection was made"`
	SocketCookie       uint64         `json:"socketCookie" doc:"SO_COOKIE, as ss -e shows it; 0: the kernel has not assigned it yet"`
	Rate               *Rate          `json:"rate,omitempty" doc:"rates since the previous list; only with --watch"`

	Key    datapath.EndKey `json:"-"` // of this end in the sockhash
	Labels [2]string       `json:"-"` // names of the owners of this end and of the other end, for tables
}

// Rate is what one socket sent in a second.
type Rate struct {
	RedirectedBytes float64 `json:"redirectedBytesPerSecond" doc:"redirected bytes"`
	TCPBytes        float64 `json:"tcpBytesPerSecond" doc:"bytes sent over TCP"`
	Messages        float64 `json:"messagesPerSecond" doc:"calls of send"`
}

func (r Rate) Bytes() float64 { return r.RedirectedBytes + r.TCPBytes }

func NewFlows(live []datapath.Flow, own Owners) []Flow {
	netns := make(map[datapath.EndKey]uint64, len(live))
	for _, f := range live {
		netns[f.Key] = f.NetNSCookie
	}
	label := own.labels()
	flows := make([]Flow, 0, len(live))
	for _, f := range live {
		// An active end stores its peer's netns cookie when it first sends. The list has it already.
		if f.PeerNetNSCookie == 0 {
			f.PeerNetNSCookie = netns[f.Key.Mirror()]
		}
		flows = append(flows, newFlow(f, own, label))
	}
	return flows
}

func newFlow(f datapath.Flow, own Owners, label func(uint64) string) Flow {
	this, peer := own[f.NetNSCookie], own[f.PeerNetNSCookie]
	v := Flow{
		Local: f.Local, Remote: f.Remote, Role: f.Role.String(), Joined: f.Joined, Mode: f.Now().String(),
		Namespace: this.Namespace, Pod: this.Pod, Container: this.Container, NetNSCookie: f.NetNSCookie,
		PeerNamespace: peer.Namespace, PeerPod: peer.Pod, PeerContainer: peer.Container,
		PeerNetNSCookie: f.PeerNetNSCookie,
		RedirectedBytes: f.RedirectedBytes, RedirectedMessages: f.RedirectedMessages,
		TCPBytes: f.TCPBytes, TCPMessages: f.TCPMessages, BacklogBytes: f.BacklogBytes,
		TCPState: f.State, Key: f.Key, AgeSeconds: f.Age.Seconds(), SocketCookie: f.SocketCookie,
		Labels: [2]string{label(f.NetNSCookie), label(f.PeerNetNSCookie)},
	}
	// The reason for TCP no longer applies once the flow is redirected again.
	if f.Mode == datapath.ModeTCP {
		v.Reason = f.Reason.String()
	}
	return v
}

// List returns all live sockets.
func List(d *datapath.Datapath) (live []datapath.Flow, err error) {
	err = d.Flows(func(f datapath.Flow) bool {
		live = append(live, f)
		return true
	})
	return live, err
}

// Read returns the live sockets of the state below dir, with their owners.
func Read(dir string) ([]Flow, error) {
	d, err := datapath.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	own, err := ReadOwners(d)
	if err != nil {
		return nil, err
	}
	live, err := List(d)
	if err != nil {
		return nil, err
	}
	return NewFlows(live, own), nil
}

// ModeText is the mode, with the reason if there is one, in one word.
func (f *Flow) ModeText() string {
	if f.Reason == "" {
		return f.Mode
	}
	return f.Mode + ":" + f.Reason
}

func (f *Flow) PerSecond() Rate {
	if f.Rate == nil {
		return Rate{}
	}
	return *f.Rate
}
