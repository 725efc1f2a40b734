// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Descriptions in the head of the file.
const (
	interfaceName = "sockmap"
	description   = "Messages as programs sent them from socket to socket (sockmapctl tap). These packets " +
		"never " +
		"existed: the bytes, addresses, sequence numbers and times are real, the other headers are not."
)

// snapLength is the largest length of an IP packet.
const snapLength = 1<<16 - 1

// windowShift makes the window in the headers larger than the bytes in flight can be.
const windowShift = 14

// Writer writes segments as pcapng with packets of raw IP. Each network namespace of a server is an interface
// of its own, as two of them may use the same addresses.
type Writer struct {
	ng         *pcapgo.NgWriter
	filter     string
	zero       time.Time // of CLOCK_MONOTONIC
	interfaces map[uint64]int
	buf        gopacket.SerializeBuffer
	zeros      []byte
	packets    uint64
}

// NewWriter writes the head of the file to w. filter and version are for people; zero is the wall-clock time
// at which CLOCK_MONOTONIC was 0.
func NewWriter(w io.Writer, version, filter string, zero time.Time) (*Writer, error) {
	out := &Writer{
		filter: filter, zero: zero, interfaces: map[uint64]int{},
		buf: gopacket.NewSerializeBuffer(), zeros: make([]byte, maxSegment),
	}
	options := pcapgo.DefaultNgWriterOptions
	options.SectionInfo.Application = "sockmapctl " + version
	var err error
	if out.ng, err = pcapgo.NewNgWriterInterface(w, out.newInterface(interfaceName), options); err != nil {
		return nil, fmt.Errorf("write head of capture: %w", err)
	}
	return out, nil
}

// newInterface returns an interface that differs only by name, because old readers want one type of
// interface.
func (w *Writer) newInterface(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name: name, Description: description, Filter: w.filter,
		LinkType: layers.LinkTypeRaw, SnapLength: snapLength, TimestampResolution: 9,
	}
}

// Interface returns the number of the interface for the network namespace of a server. name is for people,
// and called once.
func (w *Writer) Interface(netns uint64, name func() string) (int, error) {
	if id, ok := w.interfaces[netns]; ok {
		return id, nil
	}
	id, err := w.ng.AddInterface(w.newInterface(name()))
	if err != nil {
		return 0, fmt.Errorf("write interface of capture: %w", err)
	}
	w.interfaces[netns] = id
	return id, nil
}

// Write writes one segment. Comment may be empty.
func (w *Writer) Write(seg *Segment, intf int, comment string) error {
	data, length, err := w.packet(seg)
	if err != nil {
		return fmt.Errorf("make packet %s > %s: %w", seg.From, seg.To, err)
	}
	info := gopacket.CaptureInfo{
		Timestamp: w.zero.Add(seg.Time), CaptureLength: len(data), Length: length, InterfaceIndex: intf,
	}
	var options pcapgo.NgPacketOptions
	if comment != "" {
		options.Comments = []string{comment}
	}
	if err := w.ng.WritePacketWithOptions(info, data, options); err != nil {
		return fmt.Errorf("write packet: %w", err)
	}
	w.packets++
	return nil
}

// packet is valid until the next call. If a payload was not captured whole, the headers have its length, and
// the checksum is that of zeros: no reader can check it.
func (w *Writer) packet(seg *Segment) (data []byte, length int, err error) {
	payload := seg.Payload
	if seg.Length > len(payload) {
		payload = append(append(make([]byte, 0, seg.Length), seg.Payload...),
			w.zeros[:seg.Length-len(seg.Payload)]...)
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(seg.From.Port()), DstPort: layers.TCPPort(seg.To.Port()),
		Seq: seg.Seq, Ack: seg.Ack, SYN: seg.SYN, ACK: seg.ACK, PSH: seg.PSH, Window: 65535,
	}
	if seg.SYN {
		tcp.Options = []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop, OptionLength: 1},
			{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{windowShift}},
		}
	}
	ip, err := network(seg.From.Addr(), seg.To.Addr())
	if err != nil {
		return nil, 0, err
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, 0, err
	}
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	err = gopacket.SerializeLayers(w.buf, options, ip.(gopacket.SerializableLayer), tcp,
		gopacket.Payload(payload))
	if err != nil {
		return nil, 0, err
	}
	data = w.buf.Bytes()
	return data[:len(data)-(seg.Length-len(seg.Payload))], len(data), nil
}

func network(from, to netip.Addr) (gopacket.NetworkLayer, error) {
	switch {
	case from.Is4() && to.Is4():
		return &layers.IPv4{
			Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
			SrcIP: net.IP(from.AsSlice()), DstIP: net.IP(to.AsSlice()),
		}, nil
	case from.Is6() && to.Is6():
		return &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: net.IP(from.AsSlice()), DstIP: net.IP(to.AsSlice()),
		}, nil
	}
	return nil, fmt.Errorf("the addresses are of two families")
}

// Flush writes everything to the underlying writer.
func (w *Writer) Flush() error {
	if err := w.ng.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// Finish writes the number of missing messages, and flushes.
func (w *Writer) Finish(began time.Time, dropped uint64) error {
	now := time.Now()
	err := w.ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: began, EndTime: now, PacketsReceived: w.packets, PacketsDropped: dropped,
	})
	if err != nil {
		return fmt.Errorf("write statistics of capture: %w", err)
	}
	return w.Flush()
}
