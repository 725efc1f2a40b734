// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
