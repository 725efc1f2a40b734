// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"
	"testing"
)

func TestProbePairOnPlainTCPIsAnError(t *testing.T) {
	p, err := newPair(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.settle(); err == nil || !strings.Contains(err.Error(), "used TCP") {
		t.Errorf("a pair of plain TCP sockets passes for redirected: %v", err)
	}
}
