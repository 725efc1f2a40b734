// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proxyVariable is the environment variable that makes the test binary a proxy of a mesh. Its value is the
// user that the proxy runs as.
const proxyVariable = "SOCKMAP_E2E_MESH_PROXY"

// proxyOrder makes a proxy serve one pod, as istio-cni's order to ztunnel. The proxy listens, finds the
// original destination of a redirected connection by SO_ORIGINAL_DST, and makes the next connection.
type proxyOrder struct {
	Drain bool // stop to listen; connections continue

	NetNS             string // entered by setns(2) for each socket; "": it is in it already
	Outbound, Inbound int    // ports to which the pod's rules redirect

	// port of connections from proxy to proxy; 0: outgoing connections go to their destination
	Tunnel    int
	Tunnelled []netip.Addr // the pods behind a tunnel
	TLS       bool         // the tunnel uses TLS

	Mark      int        // SO_MARK of all sockets; 0: none
	Source    netip.Addr // source of connections to the application; not valid: the client's own address
	Rewritten bool       // connections to the application have another source than the client's
}

// beProxy follows orders from standard input until that ends.
func beProxy(user string) int {
	if err := obey(user); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func obey(user string) error {
	var uid int
	if _, err := fmt.Sscan(user, &uid); err != nil {
		return err
	}
	if uid != 0 {
		if err := errors.Join(syscall.Setgid(uid), syscall.Setuid(uid)); err != nil {
			return fmt.Errorf("become user %d: %w", uid, err)
		}
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	var listeners []net.Listener
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var order proxyOrder
		if err := in.Decode(&order); err != nil {
			return nil // the test has ended, or wants to end
		}
		var answer string
		if order.Drain {
			for _, l := range listeners {
				l.Close()
			}
		} else if made, err := (&proxySite{order, certificate}).serve(); err != nil {
			answer = err.Error()
		} else {
			listeners = append(listeners, made...)
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}

func selfSigned() (c tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// proxySite is the part of a proxy in one pod.
type proxySite struct {
	proxyOrder
	certificate tls.Certificate
}

// inside runs f on a thread that has entered the pod's network namespace. The cgroup stays the proxy's own.
func (p *proxySite) inside(f func() error) error {
	if p.NetNS == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(p.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (p *proxySite) serve() (made []net.Listener, err error) {
	handlers := map[int]func(*net.TCPConn) (net.Conn, net.Conn, error){
		p.Outbound: p.outbound, p.Inbound: p.inbound,
	}
	if p.Tunnel != 0 {
		handlers[p.Tunnel] = p.tunnelled
	}
	for port, handle := range handlers {
		var l net.Listener
		err := p.inside(func() (err error) {
			lc := net.ListenConfig{Control: p.control(netip.Addr{})}
			lc.SetMultipathTCP(false)
			l, err = lc.Listen(context.Background(), "tcp", fmt.Sprintf("[::]:%d", port))
			return err
		})
		if err != nil {
			return nil, err
		}
		made = append(made, l)
		go accept(l, handle)
	}
	return made, nil
}

// accept passes each connection to handle, which makes the matching one.
func accept(l net.Listener, handle func(*net.TCPConn) (from, to net.Conn, err error)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // drained
		}
		go func() {
			defer c.Close()
			from, to, err := handle(c.(*net.TCPConn))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			defer to.Close()
			relay(from, to)
		}()
	}
}

// outbound handles connections that the application makes.
func (p *proxySite) outbound(c *net.TCPConn) (from, to net.Conn, err error) {
	dst, err := originalDestination(c)
	if err != nil {
		return nil, nil, err
	}
	for _, ip := range p.Tunnelled {
		if ip == dst.Addr() {
			to, err = p.openTunnel(dst)
			return c, to, err
		}
	}
	to, err = p.dial(dst, netip.Addr{})
	return c, to, err
}

// openTunnel replaces HBONE: a line names the address to which the other proxy must connect.
func (p *proxySite) openTunnel(dst netip.AddrPort) (net.Conn, error) {
	c, err := p.dial(netip.AddrPortFrom(dst.Addr(), uint16(p.Tunnel)), netip.Addr{})
	if err != nil {
		return nil, err
	}
	if p.TLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := fmt.Fprintf(c, "CONNECT %s\n", dst); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// tunnelled handles connections from another proxy.
func (p *proxySite) tunnelled(c *net.TCPConn) (from, to net.Conn, err error) {
	from = c
	if p.TLS {
		from = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{p.certificate}})
	}
	var line []byte
	for b := make([]byte, 1); len(line) < 100 && (len(line) == 0 || line[len(line)-1] != '\n'); {
		if _, err := io.ReadFull(from, b); err != nil {
			return nil, nil, err
		}
		line = append(line, b[0])
	}
	dst, err := netip.ParseAddrPort(strings.TrimSpace(strings.TrimPrefix(string(line), "CONNECT ")))
	if err != nil {
		return nil, nil, err
	}
	to, err = p.dial(dst, p.sourceFor(c))
	return from, to, err
}

// inbound handles connections to the pod without a tunnel.
func (p *proxySite) inbound(c *net.TCPConn) (from, to net.Conn, err error) {
	dst, err := originalDestination(c)
	if err != nil {
		return nil, nil, err
	}
	to, err = p.dial(dst, p.sourceFor(c))
	return c, to, err
}

func (p *proxySite) sourceFor(c *net.TCPConn) netip.Addr {
	if p.Rewritten {
		return p.Source
	}
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

func (p *proxySite) dial(dst netip.AddrPort, source netip.Addr) (c net.Conn, err error) {
	err = p.inside(func() error {
		d := net.Dialer{Timeout: 10 * time.Second, Control: p.control(source)}
		d.SetMultipathTCP(false)
		c, err = d.Dial("tcp", dst.String())
		return err
	})
	return c, err
}

// control marks a socket and, if source is valid, binds it to an address that may belong to another host.
func (p *proxySite) control(source netip.Addr) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		cerr := raw.Control(func(fd uintptr) {
			s := int(fd)
			// The next process listens before this one stops.
			err = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if p.Mark != 0 {
				err = errors.Join(err, unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_MARK, p.Mark))
			}
			switch {
			case !source.IsValid():
			case source.Is4():
				if !p.Rewritten {
					err = errors.Join(err, unix.SetsockoptInt(s, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
				}
				err = errors.Join(err, unix.Bind(s, &unix.SockaddrInet4{Addr: source.As4()}))
			default:
				if !p.Rewritten {
					err = errors.Join(err, unix.SetsockoptInt(s, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1))
				}
				err = errors.Join(err, unix.Bind(s, &unix.SockaddrInet6{Addr: source.As16()}))
			}
		})
		return errors.Join(cerr, err)
	}
}

// originalDestination is the destination of a connection before REDIRECT.
func originalDestination(c *net.TCPConn) (dst netip.AddrPort, err error) {
	const soOriginalDst = 80 // the same number for both families
	raw, err := c.SyscallConn()
	if err != nil {
		return dst, err
	}
	v4 := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is4()
	cerr := raw.Control(func(fd uintptr) {
		if !v4 {
			var info *unix.IPv6MTUInfo // begins with a sockaddr_in6
			if info, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, soOriginalDst); err == nil {
				port := binary.NativeEndian.AppendUint16(nil, info.Addr.Port)
				dst = netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port))
			}
			return
		}
		var raw *unix.IPv6Mreq // is large enough for a sockaddr_in
		if raw, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst); err == nil {
			b := raw.Multiaddr
			dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
		}
	})
	if err = errors.Join(cerr, err); err != nil {
		return dst, fmt.Errorf("SO_ORIGINAL_DST: %w", err)
	}
	return dst, nil
}

// relay moves bytes both ways until both have ended, by read(2) and write(2), as real proxies do: with these
// types Go cannot use splice(2).
func relay(a, b net.Conn) {
	ended := make(chan struct{}, 2)
	for from, to := range map[net.Conn]net.Conn{a: b, b: a} {
		go func() {
			_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
			if half, ok := to.(interface{ CloseWrite() error }); err == nil && ok {
				_ = half.CloseWrite()
			} else {
				a.Close()
				b.Close()
			}
			ended <- struct{}{}
		}()
	}
	<-ended
	<-ended
}
