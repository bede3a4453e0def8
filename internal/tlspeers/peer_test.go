// SPDX-License-Identifier: MPL-2.0

//go:build linux

package tlspeers

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// peer is a TLS server that stands for a destination's sidecar.
type peer struct {
	name  string
	start func(t *testing.T, s setup) running
	own   bool // speaks for itself, and not for an application behind it
}

var peers = []peer{
	{"Go (lab sidecar)", startGo, false},
	{"OpenSSL s_server", startOpenSSL, true},
	{"HAProxy", startHAProxy, false},
	{"nginx stream", func(t *testing.T, s setup) running { return startNginx(t, s, "off") }, false},
	{"nginx, `proxy_half_close on`", func(t *testing.T, s setup) running { return startNginx(t, s, "on") }, false},
}

// setup is what a peer is started with.
type setup struct {
	ca      certtest.CA
	version uint16 // the only one to be spoken
}

// running is a peer that listens.
type running struct {
	addr string
	kill func()            // ends its process at once; nil if it has none
	line func(text string) // types a line at its terminal, and returns when it has been read; nil if it has none
}

// The application behind a peer does as the first line says.
const (
	cmdEcho  = "echo\n"  // sends everything back, with its end
	cmdCount = "count\n" // reads to the end, then answers with the number of bytes
	cmdBye   = "bye\n"   // answers, and ends in order
	cmdHold  = "hold\n"  // answers, and waits
	cmdReset = "reset\n" // answers, and resets
)

// application serves one connection.
func application(c meshsim.Conn) {
	in := bufio.NewReader(c)
	command, err := in.ReadString('\n')
	if err != nil {
		return
	}
	switch command {
	case cmdEcho:
		_, _ = io.Copy(c, in)
		_ = c.CloseWrite()
	case cmdCount:
		n, err := io.Copy(io.Discard, in)
		if err == nil {
			_, _ = fmt.Fprintf(c, "%d\n", n)
			_ = c.CloseWrite()
		}
	case cmdBye:
		_, _ = io.WriteString(c, command)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, in)
	case cmdHold:
		_, _ = io.WriteString(c, command)
		_, _ = io.Copy(io.Discard, in)
	case cmdReset:
		_, _ = io.WriteString(c, command)
		_, _ = in.ReadString('\n') // until it has arrived
		raw, ok := c.(*net.TCPConn)
		if !ok {
			raw = c.(*tls.Conn).NetConn().(*net.TCPConn)
		}
		_ = raw.SetLinger(0)
		_ = raw.Close()
	}
}

// startApplication listens without TLS for the life of the test.
func startApplication(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var (
		work sync.WaitGroup
		mu   sync.Mutex
		open []net.Conn
	)
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			work.Go(func() {
				application(c.(*net.TCPConn))
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return ln.Addr().String()
}

func startGo(t *testing.T, s setup) running {
	t.Helper()
	sidecar, err := meshsim.NewSidecar(meshsim.SidecarConfig{
		CA: s.ca.CA, ID: s.ca.ID(t, certtest.Service(t, "web")), Handler: application, TLSVersion: s.version,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, sidecar.Close()) })
	return running{addr: sidecar.Addr(), kill: func() { sidecar.Drop(meshsim.EndFIN) }} // as the kernel does for a process that died
}

func startOpenSSL(t *testing.T, s setup) running {
	t.Helper()
	f, addr := writeFiles(t, s), freeAddr(t)
	flag := "-tls1_3"
	if s.version == tls.VersionTLS12 {
		flag = "-tls1_2"
	}
	return startProgram(t, addr, "openssl", "s_server", "-accept", addr, flag, "-cert", f.pair, "-key", f.pair,
		"-CAfile", f.roots, "-Verify", "3", "-verify_return_error")
}

func startHAProxy(t *testing.T, s setup) running {
	t.Helper()
	f, addr := writeFiles(t, s), freeAddr(t)
	version := "TLSv1.3"
	if s.version == tls.VersionTLS12 {
		version = "TLSv1.2"
	}
	config := filepath.Join(f.dir, "haproxy.cfg")
	ok(t, os.WriteFile(config, fmt.Appendf(nil, `
global
    maxconn 50
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen web
    bind %s ssl crt %s ca-file %s verify required ssl-min-ver %s ssl-max-ver %s
    server app %s
`, addr, f.pair, f.roots, version, version, startApplication(t)), 0o600))
	return startProgram(t, addr, "haproxy", "-db", "-f", config)
}

func startNginx(t *testing.T, s setup, halfClose string) running {
	t.Helper()
	f, addr := writeFiles(t, s), freeAddr(t)
	version, module := "TLSv1.3", "/usr/lib/nginx/modules/ngx_stream_module.so"
	if s.version == tls.VersionTLS12 {
		version = "TLSv1.2"
	}
	load := ""
	if _, err := os.Stat(module); err == nil { // Debian builds it apart
		load = "load_module " + module + ";"
	}
	config := filepath.Join(f.dir, "nginx.conf")
	ok(t, os.WriteFile(config, fmt.Appendf(nil, `%s
daemon off;
master_process off;
pid %s/pid;
error_log stderr info;
events { worker_connections 50; }
stream {
    server {
        listen %s ssl;
        ssl_certificate %s;
        ssl_certificate_key %s;
        ssl_client_certificate %s;
        ssl_verify_client on;
        ssl_protocols %s;
        proxy_half_close %s;
        proxy_pass %s;
    }
}
`, load, f.dir, addr, f.pair, f.pair, f.roots, version, halfClose, startApplication(t)), 0o600))
	return startProgram(t, addr, "nginx", "-p", f.dir, "-e", "stderr", "-c", config)
}

// startConsul starts a Consul with a proxy for web, and returns a document of fn and where the proxy listens.
func startConsul(t *testing.T) (mesh.Document, running) {
	t.Helper()
	binary, err := consulproc.Find(filepath.Join("..", "..", "bin"))
	if errors.Is(err, consulproc.ErrNoBinary) {
		missing(t, "consul", "make consul builds it")
	}
	ok(t, err)
	server, err := consulproc.Start(t.Context(), consulproc.Config{Binary: binary, Dir: t.TempDir()})
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Close()) })
	c, err := api.NewClient(&api.Config{Address: server.Addr(), Scheme: "http", Token: server.Token(), HttpClient: server.HTTPClient()})
	ok(t, err)
	proxy, err := server.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "web", LocalAddr: startApplication(t)})
	ok(t, err)
	leaf, _, err := c.Agent().ConnectCALeaf("fn", nil)
	ok(t, err)
	roots, _, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	doc := mesh.Document{PrivateKeyPEM: leaf.PrivateKeyPEM, CertPEM: leaf.CertPEM, TrustDomain: roots.TrustDomain}
	for _, r := range roots.Roots {
		doc.RootCertPEM += r.RootCertPEM
	}
	return doc, running{addr: proxy.Addr()}
}

// files are what other programs read.
type files struct{ dir, pair, roots string }

func writeFiles(t *testing.T, s setup) files {
	t.Helper()
	dir := t.TempDir()
	f := files{dir, filepath.Join(dir, "pair.pem"), filepath.Join(dir, "roots.pem")}
	leaf := s.ca.Leaf(t, s.ca.ID(t, certtest.Service(t, "web")))
	ok(t, os.WriteFile(f.pair, []byte(leaf.CertPEM+leaf.KeyPEM), 0o600))
	ok(t, os.WriteFile(f.roots, []byte(s.ca.RootsPEM()), 0o600))
	return f
}

// startProgram runs a server until the test ends, and returns when it accepts connections.
func startProgram(t *testing.T, addr, name string, args ...string) running {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, "apt-get install "+name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	var output waittest.Log
	cmd.Stdout, cmd.Stderr = &output, &output
	terminal, in, err := os.Pipe()
	ok(t, err)
	cmd.Stdin = terminal
	ok(t, cmd.Start())
	_ = terminal.Close()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = in.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, output.String())
		}
	})
	if !waittest.Within(patience, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}) {
		t.Fatalf("%s does not listen:\n%s", name, &output)
	}
	return running{addr, cancel, func(text string) {
		_, err := io.WriteString(in, text+"\n")
		ok(t, err)
		waittest.Until(t, name+" to read "+text, func() bool {
			left, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCINQ)
			ok(t, err)
			return left == 0
		})
	}}
}

// missing skips the test, or fails it where every peer must be there.
func missing(t *testing.T, name, remedy string) {
	t.Helper()
	if os.Getenv("TLSPEERS_REQUIRED") == "1" {
		t.Fatalf("%s is not installed: %s", name, remedy)
	}
	t.Skipf("%s is not installed: %s", name, remedy)
}

// freeAddr is an address at which a program can listen: on a host of its own, so that nobody takes the port in between.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.N(254), rand.N(256), 1+rand.N(254)))
	ok(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
