// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"testing"
)

// R6: all of these through sidecar and gateway, where each needs half-close.
func TestHandlersTalkToTheEnd(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	pattern, err := io.ReadAll(Pattern(size))
	ok(t, err)
	sum := sha256.Sum256(pattern)
	received := make(chan Received, 1)

	tests := map[string]struct {
		handler Handler
		send    []byte
		want    []byte
	}{
		"echo":   {Echo, pattern, pattern},
		"digest": {Digest, pattern, []byte(hex.EncodeToString(sum[:]))},
		"sink":   {Sink(func(r Received) { received <- r }), pattern, nil},
		"source": {Source(size), nil, pattern},
		"banner": {Banner("220 ready\r\n"), []byte("QUIT"), []byte("220 ready\r\nQUIT")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, Config{})
			addService(t, m, "web", tt.handler)
			c := connect(t, m, "web")
			sent := make(chan error, 1)
			go sendAll(c, tt.send, sent)
			got, err := io.ReadAll(c)
			ok(t, err)
			ok(t, <-sent)
			if !bytes.Equal(got, tt.want) {
				t.Errorf("got %d bytes, want %d", len(got), len(tt.want))
			}
			if name == "sink" {
				if r := <-received; r.Err != nil || r.Bytes != size || r.SHA256 != sum {
					t.Errorf("received %d bytes, %v", r.Bytes, r.Err)
				}
			}
		})
	}
}

// sendAll writes b and ends its direction.
func sendAll(c *tls.Conn, b []byte, done chan<- error) {
	_, err := c.Write(b)
	if err == nil {
		err = c.CloseWrite()
	}
	done <- err
}

func TestPatternIsStableAndDoesNotRepeat(t *testing.T) {
	t.Parallel()
	a, _ := io.ReadAll(Pattern(1 << 20))
	b, _ := io.ReadAll(Pattern(2 << 20))
	if len(b) != 2<<20 || !bytes.Equal(a, b[:1<<20]) {
		t.Error("not stable")
	}
	if bytes.Contains(b[64:], b[:64]) {
		t.Error("repeats")
	}
}

func TestHTTPServiceAnswersOverOneConnection(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	s := addService(t, m, "web", HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})))
	cfg := clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{}))
	tr := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", m.Gateway.Addr())
	}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: patience}
	for range 3 {
		res, err := client.Post("https://web.example/", "text/plain", bytes.NewReader([]byte("ping")))
		ok(t, err)
		body, err := io.ReadAll(res.Body)
		ok(t, err)
		ok(t, res.Body.Close())
		if string(body) != "ping" {
			t.Errorf("answer %q", body)
		}
	}
	if n := s.Stats().Handshakes; n != 1 {
		t.Errorf("%d handshakes for three requests", n)
	}
}

// R5: a sidecar that dies after n bytes, at the end of a record.
func TestTruncateCutsWithoutCloseNotify(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, how := range []End{EndFIN, EndRST} {
		for _, n := range []int64{0, 1, 100_000} {
			s := newSidecar(t, ca, SidecarConfig{Handler: Truncate(Source(1<<20), n, how), TLSVersion: tls.VersionTLS12})
			tap := &wireTap{Conn: dialRaw(t, s.Addr())}
			c, err := handshake(t, tap, clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{})))
			if how == EndRST && n == 0 && err != nil {
				continue // the reset may overtake the end of the handshake
			}
			ok(t, err)
			got, err := io.ReadAll(c)
			// Go says io.EOF for a bare FIN at the end of a record: see R5.
			if int64(len(got)) != n || isReset(err) != (how == EndRST) || tap.sawAlert() {
				t.Errorf("how %d, %d bytes: got %d, %v, close_notify %v", how, n, len(got), err, tap.sawAlert())
			}
			_ = c.Close()
		}
	}
}
