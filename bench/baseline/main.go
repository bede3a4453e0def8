// SPDX-License-Identifier: MPL-2.0

// Command baseline is the proxy that one would write first: for comparison, by package bench only. It is started like the
// extension, through the same environment, registers with the Extensions API and reads the same parameter. Then it accepts,
// parses the credentials, dials, and copies both ways until one of them ends. Nothing in it is tuned, and nothing is made
// slow on purpose.
//
//	baseline                   # the extension's environment
//	baseline -splice FROM TO   # plain TCP between two addresses: what a proxy costs without TLS
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/lambdaext"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "-splice" {
		return listen(ctx, args[1], func() (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", args[2])
		})
	}
	upstreams, err := mesh.ParseUpstreams(os.Getenv("CONSUL_SERVICE_UPSTREAMS"))
	if err != nil {
		return err
	}
	self, err := mesh.NewService(os.Getenv("AWS_LAMBDA_FUNCTION_NAME"), "", "")
	if err != nil {
		return err
	}
	path, err := self.ParameterPath(os.Getenv("CONSUL_EXTENSION_DATA_PREFIX"))
	if err != nil {
		return err
	}
	api, err := lambdaext.Register(ctx, lambdaext.Config{
		RuntimeAPI: os.Getenv("AWS_LAMBDA_RUNTIME_API"),
		Name:       filepath.Base(os.Args[0]),
	}, lambdaext.Shutdown)
	if err != nil {
		return err
	}
	defer api.Close()

	store, err := paramstore.New(paramstore.Config{Getenv: os.Getenv})
	if err != nil {
		return err
	}
	raw, err := store.Reader(path).Fetch(ctx)
	if err != nil {
		return err
	}
	doc, err := mesh.ParseDocument(raw)
	if err != nil {
		return err
	}
	var current atomic.Pointer[mesh.Document]
	current.Store(&doc)

	failed := make(chan error, len(upstreams))
	for _, u := range upstreams {
		go func() {
			failed <- listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(u.Port())), func() (net.Conn, error) {
				return dial(ctx, u, current.Load())
			})
		}()
	}
	go func() {
		_, err := api.Next(ctx)
		failed <- err
	}()
	return <-failed
}

// listen relays what it accepts.
func listen(ctx context.Context, addr string, dial func() (net.Conn, error)) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	for {
		down, err := ln.Accept()
		if err != nil {
			return err
		}
		go relay(down, dial)
	}
}

// relay copies both ways, and closes both when one ends.
func relay(down net.Conn, dial func() (net.Conn, error)) {
	defer down.Close()
	up, err := dial()
	if err != nil {
		log.Print(err)
		return
	}
	defer up.Close()
	done := make(chan struct{}, 2)
	transfer := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		done <- struct{}{}
	}
	go transfer(up, down)
	go transfer(down, up)
	<-done
}

// dial makes everything that a connection needs anew.
func dial(ctx context.Context, u mesh.Upstream, doc *mesh.Document) (net.Conn, error) {
	cert, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(doc.RootCertPEM)) {
		return nil, errors.New("the document holds no root")
	}
	id, err := mesh.ParseID(cert.Leaf.URIs[0])
	if err != nil {
		return nil, err
	}
	want, err := mesh.ServiceID(u.Service(), id.Datacenter(), id.TrustDomain())
	if err != nil {
		return nil, err
	}
	sni, err := mesh.ServiceSNI(u.Service(), id.Datacenter(), id.TrustDomain())
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: &tls.Config{
		Certificates:       []tls.Certificate{cert},
		ServerName:         sni.String(),
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // a mesh leaf has no host name; VerifyConnection checks chain and identity
		VerifyConnection: func(cs tls.ConnectionState) error {
			leaf := cs.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
				return err
			}
			if len(leaf.URIs) != 1 {
				return errors.New("the peer has no identity")
			}
			got, err := mesh.ParseID(leaf.URIs[0])
			if err != nil {
				return err
			}
			if !got.Matches(want) {
				return fmt.Errorf("the peer is %s", got)
			}
			return nil
		},
	}}
	return d.DialContext(ctx, "tcp", os.Getenv("CONSUL_MESH_GATEWAY_URI"))
}
