// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"
	"time"
)

func TestHelloAndReceiptSurviveTheWire(t *testing.T) {
	for _, h := range []Hello{{ModeEcho, 1, 64, true}, {ModeSink, 1 << 31, 64 << 20, false}} {
		b := h.Append(nil)
		if got, err := ParseHello(b); err != nil || got != h || len(b) != HelloSize {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
	for _, r := range []Receipt{{}, {1 << 40, time.Hour, true}} {
		b := r.Append(nil)
		if got, err := ParseReceipt(b); err != nil || got != r || len(b) != ReceiptSize {
			t.Errorf("%+v came back as %+v, %v", r, got, err)
		}
	}
}

func TestWrongHellosAreRefused(t *testing.T) {
	good := Hello{Mode: ModeEcho, Size: 1}
	for name, b := range map[string][]byte{
		"short":        good.Append(nil)[:HelloSize-1],
		"magic":        append([]byte("GET "), good.Append(nil)[4:]...),
		"mode":         Hello{Mode: 3, Size: 1}.Append(nil),
		"size zero":    Hello{Mode: ModeEcho}.Append(nil),
		"size too big": Hello{Mode: ModeEcho, Size: 1 << 31}.Append(nil),
	} {
		if h, err := ParseHello(b); err == nil {
			t.Errorf("%s: parsed as %+v", name, h)
		}
	}
	if _, err := ParseReceipt(make([]byte, 3)); err == nil {
		t.Error("a receipt of 3 bytes was parsed")
	}
}
