// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestTsharkDecodesACaptureOfRedis(t *testing.T) {
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	serve(t, g, ns, "redis-server", "--bind", "127.0.0.1", "--port", "6379", "--save", "", "--dir", t.TempDir())
	eventually(t, "redis answers", func() bool {
		_, err := outputIn(t, g, ns, "", "redis-cli", "ping")
		return err == nil
	})
	file := captureFile(t)
	p := n.startTap(t, "--with-tcp", "--pod", "shop/web-0", "--port", "6379", "-w", file)
	value := strings.Repeat("0123456789abcdef", 20_000)
	if out, err := outputIn(t, g, ns, value, "redis-cli", "-x", "set", "key"); err != nil || out != "OK\n" {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := outputIn(t, g, ns, "", "redis-cli", "--raw", "get", "key"); err != nil || out != value+"\n" {
		t.Fatalf("%v: %d bytes", err, len(out))
	}
	wantWhole(t, p.end(t, syscall.SIGINT))

	wantFaultless(t, file)
	// Both connections, from their handshake on.
	if out := tshark(t, file, "-Y", "tcp.flags.syn == 1 and tcp.flags.ack == 0"); lineCount(out) != 2 {
		t.Errorf("handshakes of two connections are wanted:\n%s", out)
	}
	resp := tshark(t, file, "-Y", "resp", "-T", "fields", "-e", "resp.bulk_string.value", "-e", "resp.string")
	for _, word := range []string{fmt.Sprintf("%x", "set"), fmt.Sprintf("%x", "key"), "OK"} {
		if !strings.Contains(strings.ToLower(resp), strings.ToLower(word)) {
			t.Errorf("no %q among what tshark finds of redis:\n%.500s", word, resp)
		}
	}
	for stream, want := range []string{"SET", "get"} {
		followed := tshark(t, file, "-q", "-z", fmt.Sprintf("follow,tcp,raw,%d", stream))
		if !strings.Contains(strings.ToLower(followed), fmt.Sprintf("%x", strings.ToLower(want))) {
			t.Errorf("stream %d has no %s:\n%.500s", stream, want, followed)
		}
		if hex := strings.NewReplacer("\n", "", "\t", "").Replace(followed); !strings.Contains(hex,
			fmt.Sprintf("%x", value)) {
			t.Errorf("the value of %d bytes is not in stream %d", len(value), stream)
		}
	}
	comments := tshark(t, file, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment")
	if want := regexp.MustCompile(`client shop/web-0 \(netns \d+\), server shop/web-0 \(netns \d+\)`); !want.MatchString(comments) {
		t.Errorf("comments: %s", comments)
	}
	if out := tshark(t, file, "-T", "fields", "-e", "frame.interface_name"); strings.Trim(out, "\n") == "" ||
		strings.ReplaceAll(strings.ReplaceAll(out, "shop/web-0", ""), "\n", "") != "" {
		t.Errorf("names of interfaces: %.200s", out)
	}
}

func TestTsharkDecodesACaptureOfNginx(t *testing.T) {
	dir, err := os.MkdirTemp("", "sockmapctl-tap-") // nginx's workers can enter it, unlike t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := fmt.Sprintf("daemon off; error_log stderr; pid %[1]s/pid; events {} http { access_log off; sendfile on; "+
		"client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; "+
		"scgi_temp_path %[1]s; server { listen 127.0.0.1:80; listen [::1]:80; root %[1]s; } }", dir)
	content := strings.Repeat("not a byte of this may be missing\n", 7_000) // within the first window
	for name, text := range map[string]string{"nginx.conf": conf, "file": content} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := newLoadedNode(t)
	g, ns := n.shop(t)
	serve(t, g, ns, "nginx", "-c", filepath.Join(dir, "nginx.conf"))
	// redis-cli aside, Debian's base has no client of TCP but bash.
	get := func(host string) (string, error) {
		script := fmt.Sprintf(`exec 3<>/dev/tcp/%s/80 && printf 'GET /file HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n' >&3 && cat <&3`, host)
		return outputIn(t, g, ns, "", "bash", "-c", script)
	}
	eventually(t, "nginx answers", func() bool { _, err := get("127.0.0.1"); return err == nil })
	file := captureFile(t)
	p := n.startTap(t, "--with-tcp", "--namespace", "shop", "-w", file)
	for _, host := range []string{"127.0.0.1", "::1"} {
		if out, err := get(host); err != nil || !strings.HasSuffix(out, content) {
			t.Fatalf("%s: %v: %d bytes", host, err, len(out))
		}
	}
	wantWhole(t, p.end(t, syscall.SIGTERM))

	wantFaultless(t, file)
	http := tshark(t, file, "-Y", "http", "-T", "fields", "-e", "http.request.uri", "-e", "http.response.code",
		"-e", "http.content_length")
	want := strings.Repeat(fmt.Sprintf("/file\t\t\n\t200\t%d\n", len(content)), 2)
	if http != want {
		t.Errorf("tshark finds\n%swant\n%s", http, want)
	}
	out := t.TempDir()
	tshark(t, file, "-q", "--export-objects", "http,"+out)
	objects, err := os.ReadDir(out)
	if err != nil || len(objects) != 2 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for _, o := range objects {
		if got, err := os.ReadFile(filepath.Join(out, o.Name())); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", o.Name(), len(got), err)
		}
	}
}
