// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// explains is the result of sockmapctl explain for the direction from client to server, and the text for
// people.
func (w *world) explains(client, server string) (answer, text string) {
	w.Helper()
	run := func(args ...string) []byte {
		args = append([]string{"--bpffs-path", w.node.BPFFS(), "explain", client, server}, args...)
		out, err := exec.Command(filepath.Join(labtest.Plugins(w.T), "sockmapctl"), args...).Output()
		if err != nil {
			w.Fatalf("sockmapctl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	var v struct {
		Directions []struct{ Answer string }
	}
	if err := json.Unmarshal(run("-o", "json"), &v); err != nil || len(v.Directions) == 0 {
		w.Fatalf("explain: %+v, %v", v, err)
	}
	return v.Directions[0].Answer, string(run())
}

// The output of explain during one connection's life, of a pod that was adopted: before the connection
// exists, while it is redirected, while its pod is switched off, afterwards, and when it has ended; and also
// of a connection from before the adoption.
func TestExplainFollowsAFlowOfAnAdoptedPod(t *testing.T) {
	o := newOlder(t, nil)
	web := o.pod(lab.PodSpec{Namespace: "shop", Name: "web-0", Conflist: o.before})
	db := o.pod(lab.PodSpec{Namespace: "shop", Name: "db-0", Conflist: o.before})
	before := o.withoutDatapath(web, db)
	o.stand(o.Adopt(t.Context(), every))
	server := at(db.IP4(), 5432)
	tell := func(client, server, want string, says ...string) {
		t.Helper()
		answer, text := o.explains(client, server)
		if !strings.Contains(answer, want) {
			t.Errorf("explain %s %s: result %q, want %q\n%s", client, server, answer, want, text)
		}
		for _, s := range says {
			if !strings.Contains(text, s) {
				t.Errorf("explain %s %s: the text does not have %q:\n%s", client, server, s, text)
			}
		}
	}
	own := before[0].LocalAddr().String()
	tell(own, before[1].LocalAddr().String(), "redirected", "none between the two") // the state of a new one
	tell("shop/web-0", "shop/db-0:5432", "redirected", "none between the two")

	l := o.live(web, db, 5432)
	client := l.client.LocalAddr().String()
	if netip.MustParseAddrPort(client).Addr() != web.IP4() {
		t.Fatalf("the client is %s", client)
	}
	l.follows(true, time.Now())
	tell(client, server, "redirected", "shop/web-0", "shop/db-0")
	part := datapath.Switch{Kind: datapath.SwitchPod, Name: "shop/db-0"}
	l.follows(false, o.turn(true, part))
	tell(client, server, "TCP", "pod shop/db-0 was switched off with sockmapctl disable", "sockmapctl enable")
	tell("shop/web-0", "shop/db-0:5432", "TCP", "pod shop/db-0 was switched off with sockmapctl disable")
	l.follows(true, o.turn(false, part))
	tell(client, server, "redirected")
	l.client.Close()
	l.server.Close()
	tell(client, server, "redirected", "none between the two")
}
