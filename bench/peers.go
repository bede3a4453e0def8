// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// configure writes what a proxy needs to carry connections from one address to another, and returns its arguments.
type configure func(h *harness, from, to string) ([]string, error)

// peerNames are the proxies that are measured where a machine has them.
var peerNames = []string{"haproxy", "nginx", "stunnel"}

// installed returns the peers that this machine has. Each verifies the server's chain, shows the client's certificate,
// sends the server name and resumes sessions.
func installed() []*system {
	var found []*system
	for _, p := range []struct {
		name     string
		programs []string
		config   configure
	}{
		{"haproxy", []string{"haproxy"}, configureHAProxy},
		{"nginx", []string{"nginx"}, configureNginx},
		{"stunnel", []string{"stunnel4", "stunnel"}, configureStunnel},
	} {
		for _, program := range p.programs {
			if path := look(program); path != "" {
				found = append(found, &system{name: p.name, kind: peer, path: path, config: p.config})
				break
			}
		}
	}
	return found
}

// look finds a program, also where daemons are and not every user's PATH goes.
func look(program string) string {
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func configureSplice(_ *harness, from, to string) ([]string, error) {
	return []string{"-splice", from, to}, nil
}

// write makes a file in a folder of its own below the run's, and returns that.
func (h *harness) write(name, content string) (file, dir string, err error) {
	dir, err = os.MkdirTemp(h.dir, name+"-")
	if err != nil {
		return "", "", err
	}
	content = strings.NewReplacer("{dir}", dir, "{root}", h.file(rootFile), "{cert}", h.file(certFile), "{key}", h.file(keyFile),
		"{pair}", h.file(pairFile), "{sni}", h.pki.sni).Replace(content)
	file = filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return "", "", fmt.Errorf("configuring %s: %w", name, err)
	}
	return file, dir, nil
}

func configureHAProxy(h *harness, from, to string) ([]string, error) {
	// It refuses to start if its connections could need more descriptors than it may have.
	most := strconv.FormatUint(min(5000, h.files/2-100), 10)
	file, _, err := h.write("haproxy", `
global
    maxconn `+most+`
defaults
    mode tcp
    maxconn `+most+`
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen web
    bind `+from+`
    server web `+to+` ssl verify required ca-file {root} crt {pair} sni str({sni})
`)
	return []string{"-db", "-f", file}, err
}

// nginxStream is where Debian has the module that nginx relays TCP with.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

func configureNginx(h *harness, from, to string) ([]string, error) {
	load := ""
	if _, err := os.Stat(nginxStream); err == nil {
		load = "load_module " + nginxStream + ";"
	}
	file, dir, err := h.write("nginx", load+`
daemon off;
pid {dir}/pid;
error_log {dir}/error.log warn;
worker_processes auto;
events { worker_connections 5000; }
stream {
    server {
        listen `+from+`;
        proxy_pass `+to+`;
        proxy_timeout 1h;
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_ssl_certificate {cert};
        proxy_ssl_certificate_key {key};
        proxy_ssl_trusted_certificate {root};
        proxy_ssl_verify on;
        proxy_ssl_name {sni};
        proxy_ssl_server_name on;
        proxy_ssl_session_reuse on;
    }
}
`)
	return []string{"-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file}, err
}

func configureStunnel(h *harness, from, to string) ([]string, error) {
	file, _, err := h.write("stunnel", `
foreground = yes
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[web]
client = yes
accept = `+from+`
connect = `+to+`
cert = {cert}
key = {key}
CAfile = {root}
verifyChain = yes
sni = {sni}
TIMEOUTidle = 3600
`)
	return []string{file}, err
}
