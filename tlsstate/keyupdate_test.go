// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// crypto/tls answers a KeyUpdate but never sends one by itself, so the far end speaks the record layer of TLS 1.3 by hand
// once the handshake is done (RFC 8446 sections 5.2, 7.1 and 7.3).

// records is one direction of a TLS 1.3 connection with AES-128-GCM.
type records struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

const (
	handshakeRecord   = 22
	applicationRecord = 23
	keyUpdateMessage  = 24
)

func (r *records) expand(label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(append(info, byte(len(label))), label...), 0)
	return hkdf.Expand(sha256.New, r.secret, string(info), n)
}

// rekey begins with a secret.
func (r *records) rekey(secret []byte) error {
	r.secret, r.seq = secret, 0
	key, err := r.expand("key", 16)
	if err != nil {
		return err
	}
	if r.iv, err = r.expand("iv", 12); err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	r.aead, err = cipher.NewGCM(block)
	return err
}

// update moves on to the next secret.
func (r *records) update() error {
	next, err := r.expand("traffic upd", sha256.Size)
	if err != nil {
		return err
	}
	return r.rekey(next)
}

func (r *records) nonce() []byte {
	nonce := bytes.Clone(r.iv)
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], r.seq)
	for i, b := range seq {
		nonce[4+i] ^= b
	}
	r.seq++
	return nonce
}

func (r *records) seal(kind byte, p []byte) []byte {
	inner := append(bytes.Clone(p), kind)
	header := binary.BigEndian.AppendUint16([]byte{applicationRecord, 3, 3}, uint16(len(inner)+r.aead.Overhead()))
	return append(header, r.aead.Seal(nil, r.nonce(), inner, header)...)
}

func (r *records) open(from io.Reader) (kind byte, p []byte, err error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(from, header); err != nil {
		return 0, nil, err
	}
	sealed := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(from, sealed); err != nil {
		return 0, nil, err
	}
	inner, err := r.aead.Open(nil, r.nonce(), sealed, header)
	if err != nil || len(inner) == 0 {
		return 0, nil, fmt.Errorf("a record that cannot be opened: %w", err)
	}
	return inner[len(inner)-1], inner[:len(inner)-1], nil
}

// keyLog collects the secrets of a handshake.
type keyLog struct{ waittest.Log }

func (l *keyLog) secret(t testing.TB, label string) []byte {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

// newPairByHand is a pair whose far end goes on by hand: out is what it sends, in what it receives.
func newPairByHand(t testing.TB) (p *pair, out, in *records) {
	t.Helper()
	secrets := new(keyLog)
	p = newPair(t, pairConfig{far: func(cfg *tls.Config) { cfg.KeyLogWriter = secrets }})
	if p.far.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher suite")
	}
	out, in = new(records), new(records)
	if err := out.rekey(secrets.secret(t, "SERVER_TRAFFIC_SECRET_0")); err != nil {
		t.Fatal(err)
	}
	if err := in.rekey(secrets.secret(t, "CLIENT_TRAFFIC_SECRET_0")); err != nil {
		t.Fatal(err)
	}
	return p, out, in
}

// keyUpdate is the message that asks for an answer (RFC 8446 section 4.6.3: update_requested).
func keyUpdate() []byte { return []byte{keyUpdateMessage, 0, 0, 1, 1} }

// Wait deals with what is no data, such as a KeyUpdate or a session ticket, and goes on waiting.
func TestWaitReturnsForDataOnly(t *testing.T) {
	t.Parallel()
	p, out, in := newPairByHand(t)
	waited := make(chan struct{})
	go func() {
		p.Wait()
		close(waited)
	}()
	for range 5 {
		p.far.send(t, out.seal(handshakeRecord, keyUpdate()))
		if err := out.update(); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := in.open(p.far.tap.Conn); kind != handshakeRecord || err != nil {
			t.Fatalf("the answer is a record of type %d, %v", kind, err)
		}
		if err := in.update(); err != nil {
			t.Fatal(err)
		}
		p.holdsNothing(t)
		select {
		case <-waited:
			t.Fatal("Wait returned, and there was nothing to read")
		default:
		}
	}
	p.far.send(t, out.seal(applicationRecord, []byte("x")))
	<-waited
	if n, err := p.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// R7: a peer may change its keys at any time and ask that we change ours. The answer is written by whoever reads, in the
// middle of what another goroutine writes, collected or not.
func TestKeyUpdateInTheMiddleOfBothStreams(t *testing.T) {
	t.Parallel()
	for how, r := range readings {
		for _, chunk := range []int{1000, 300 << 10} {
			t.Run(fmt.Sprintf("%s/writes=%d", how, chunk), func(t *testing.T) {
				t.Parallel()
				p, out, in := newPairByHand(t)
				const updates = 20
				down, up := pattern(40_000), pattern(min(chunk*50, 900<<10))
				var work sync.WaitGroup
				allRead := make(chan struct{})
				work.Go(func() {
					half := len(up) / 2
					for i := 0; i < half; i += chunk {
						if _, err := p.Write(up[i:min(i+chunk, half)]); err != nil {
							t.Error(err)
						}
					}
					<-allRead // all answers are sent by now
					writeChunks(t, p.Conn, up[half:], chunk)
				})
				work.Go(func() { // the far end sends
					piece := len(down) / updates
					for i := range updates {
						data := out.seal(applicationRecord, down[i*piece:(i+1)*piece])
						update := out.seal(handshakeRecord, keyUpdate())
						if err := out.update(); err != nil {
							t.Error(err)
						}
						if _, err := p.far.tap.Conn.Write(append(data, update...)); err != nil {
							t.Error(err)
						}
					}
					if _, err := p.far.tap.Conn.Write(out.seal(21, []byte{1, 0})); err != nil { // close_notify
						t.Error(err)
					}
				})
				work.Go(func() { // the far end receives
					var got []byte
					answers := 0
					for {
						kind, data, err := in.open(p.far.tap.Conn)
						if err != nil {
							t.Errorf("after %d bytes and %d updates: %v", len(got), answers, err)
							return
						}
						if kind == handshakeRecord {
							answers++
							if err := in.update(); err != nil {
								t.Error(err)
							}
							continue
						}
						if kind != applicationRecord {
							break // close_notify
						}
						got = append(got, data...)
					}
					if !bytes.Equal(got, up) || answers != updates {
						t.Errorf("the far end got %d of %d bytes (or they differ), and %d of %d answers", len(got), len(up), answers, updates)
					}
				})
				got, err := r.readAll(p.Conn)
				close(allRead)
				if err != io.EOF || !bytes.Equal(got, down) {
					t.Errorf("%d of %d bytes came (or they differ), %v", len(got), len(down), err)
				}
				work.Wait()
			})
		}
	}
}
