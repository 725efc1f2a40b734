// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// frames reads all frames of a stream.
func frames(t *testing.T, stream string) (all []Frame, damaged int) {
	t.Helper()
	r := NewReader(strings.NewReader(stream))
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, r.Damaged()
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
}

var conversation = []Frame{
	{Seq: 1, Kind: Hello, Text: "6.1.0-50-cloud-amd64"},
	{Seq: 2, Kind: Start, Program: "datapath"},
	{Seq: 3, Kind: Output, Program: "datapath", Data: []byte("\x16=== RUN\n\x00\xff\x01vm1 not a frame\n")},
	{Seq: 4, Kind: Exit, Program: "datapath", Status: &Status{Code: 1, Took: 3 * time.Second}},
	{Seq: 5, Kind: Bye},
}

// written are the frames on the line, a string per frame.
func written(t *testing.T) (lines []string) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, f := range conversation {
		out.Reset()
		f.Seq = 0
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, out.String())
	}
	return lines
}

func TestReaderFindsFramesAmidOtherText(t *testing.T) {
	lines := written(t)
	for _, tt := range []struct {
		name    string
		edit    func(lines []string) string
		missing []uint64
		damaged int
	}{
		{"nothing else", func(l []string) string { return strings.Join(l, "") }, nil, 0},
		{"carriage returns of a cooked line", func(l []string) string {
			return strings.ReplaceAll(strings.Join(l, ""), "\n", "\r\n")
		}, nil, 0},
		{"kernel messages between", func(l []string) string {
			return "[    0.000000] Linux version\r\n" + strings.Join(l,
				"[   12.5] random: crng init done\r\n") + "\x1b[0m"
		}, nil, 0},
		{"a message without its end before each", func(l []string) string {
			return strings.Join(append([]string{""}, trimLeft(l)...), "[   12.5] trailing")
		}, nil, 0},
		{"a message within one", func(l []string) string {
			l[2] = l[2][:60] + "[   12.5] Oops" + l[2][60:]
			return strings.Join(l, "")
		}, []uint64{3}, 1},
		{"a byte changed", func(l []string) string {
			l[1] = strings.Replace(l[1], "datapath", "datapatj", 1)
			return strings.Join(l, "")
		}, []uint64{2}, 1},
		{"two lost", func(l []string) string { return l[0] + l[3] + l[4] }, []uint64{2, 3}, 2},
		{"cut off in the middle", func(l []string) string {
			return strings.Join(l[:3], "") + l[3][:40]
		}, []uint64{4, 5}, 0},
		{"cut off by the next", func(l []string) string {
			return l[0] + l[1] + l[2][:50] + strings.TrimPrefix(l[3], "\n") + l[4]
		}, []uint64{3}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, damaged := frames(t, tt.edit(append([]string(nil), lines...)))
			var want []Frame
			for _, f := range conversation {
				if !slices.Contains(tt.missing, f.Seq) {
					want = append(want, f)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
			if damaged != tt.damaged {
				t.Errorf("%d damaged, want %d", damaged, tt.damaged)
			}
		})
	}
}

func trimLeft(lines []string) (trimmed []string) {
	for _, l := range lines {
		trimmed = append(trimmed, strings.TrimPrefix(l, "\n"))
	}
	return trimmed
}

func TestStreamSplitsLongData(t *testing.T) {
	var out bytes.Buffer
	want := bytes.Repeat([]byte("0123456789"), MaxData/4)
	n, err := NewWriter(&out).Stream(Frame{Kind: File, Path: "a"}).Write(want)
	if n != len(want) || err != nil {
		t.Fatalf("wrote %d of %d bytes, error %v", n, len(want), err)
	}
	all, _ := frames(t, out.String())
	var got []byte
	for _, f := range all {
		if len(f.Data) > MaxData || f.Kind != File || f.Path != "a" {
			t.Errorf("frame %d: %s %q of %d bytes", f.Seq, f.Kind, f.Path, len(f.Data))
		}
		got = append(got, f.Data...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the pieces are not the whole")
	}
}

func TestWriterReportsABrokenLine(t *testing.T) {
	gone := errors.New("gone")
	w := NewWriter(writerFunc(func([]byte) (int, error) { return 0, gone }))
	if err := w.Send(Frame{Kind: Bye}); !errors.Is(err, gone) {
		t.Errorf("send: %v", err)
	}
	if n, err := w.Stream(Frame{Kind: Output}).Write([]byte("x")); n != 0 || !errors.Is(err, gone) {
		t.Errorf("write: %d, %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStatusSaysHowAProgramEnded(t *testing.T) {
	for _, tt := range []struct {
		status Status
		text   string
		ok     bool
	}{
		{Status{}, "exit status 0", true},
		{Status{Code: 2}, "exit status 2", false},
		{Status{Code: -1, Signal: "killed"}, "ended by signal killed", false},
		{Status{Code: -1, Signal: "killed", TimedOut: true}, "killed at its time limit", false},
		{Status{Error: "no such file"}, "no such file", false},
		// It ended well, but too late: the limit is a part of the requirement.
		{Status{TimedOut: true}, "killed at its time limit", false},
	} {
		if tt.status.String() != tt.text || tt.status.OK() != tt.ok {
			t.Errorf("%+v: %q and %v, want %q and %v", tt.status, tt.status, tt.status.OK(), tt.text, tt.ok)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add("\x01vm1 00000000 {}\n")
	f.Add("\n\x01vm1 \n\x01vm1 zz {\n")
	f.Fuzz(func(t *testing.T, noise string) {
		var out bytes.Buffer
		out.WriteString(noise)
		if err := NewWriter(&out).Send(conversation[1]); err != nil {
			t.Fatal(err)
		}
		all, _ := frames(t, out.String())
		if len(all) == 0 || all[len(all)-1].Program != "datapath" {
			t.Errorf("the frame after %q is lost", noise)
		}
	})
}
