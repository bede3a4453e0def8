// SPDX-License-Identifier: MPL-2.0

//go:build linux

package tlspeers

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// patience bounds every wait; nothing is expected to take nearly so long.
const patience = waittest.Patience

var update = flag.Bool("update", false, "write the table of docs/tls-peers.md; every peer must be installed")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is what was seen of one peer with one version of TLS, in the words of the table.
type row struct{ peer, version, resumes, refused, keyUpdate, ours, theirs, reset, killed string }

const header = `| peer | TLS | resumes | our certificate is refused | KeyUpdate | we end first | it ends first, in order | its application resets | its process dies |
|---|---|---|---|---|---|---|---|---|
`

func (r row) String() string {
	return "| " + strings.Join([]string{r.peer, r.version, r.resumes, r.refused, r.keyUpdate, r.ours, r.theirs, r.reset, r.killed}, " | ") + " |\n"
}

// R1, R4, R5, R6: what our connections make of other implementations of TLS, and these of ours.
func TestPeers(t *testing.T) {
	var table strings.Builder
	table.WriteString(header)
	for _, p := range peers {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(p.name+" "+tls.VersionName(version), func(t *testing.T) {
				s := setup{certtest.NewCA(t), version}
				fn := certtest.Service(t, "fn")
				m := matrix{
					start:   func(t *testing.T) running { return p.start(t, s) },
					doc:     s.ca.Doc(t, fn),
					foreign: s.ca.Doc(t, fn, meshsim.LeafOptions{Flaw: meshsim.ForeignCA}),
					version: version,
					own:     p.own,
				}
				r := m.row(t)
				r.peer = p.name
				table.WriteString(r.String())
			})
		}
	}
	t.Run("consul connect proxy", func(t *testing.T) {
		doc, proxy := startConsul(t)
		m := matrix{start: func(*testing.T) running { return proxy }, doc: doc, version: tls.VersionTLS13}
		r := m.row(t)
		r.peer = "`consul connect proxy`"
		table.WriteString(r.String())
	})
	t.Logf("\n%s", &table)
	if *update && !t.Failed() {
		write(t, table.String())
	}
}

// write puts the table between its marks in the documentation.
func write(t *testing.T, table string) {
	t.Helper()
	const file, begin, end = "../../docs/tls-peers.md", "<!-- table -->\n", "<!-- /table -->\n"
	text, err := os.ReadFile(file)
	ok(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no table to replace", file)
	}
	ok(t, os.WriteFile(file, []byte(before+begin+table+end+after), 0o644))
}

// matrix asks the questions of one peer.
type matrix struct {
	start        func(*testing.T) running
	doc, foreign mesh.Document // the latter signed by nobody that the peer knows; empty if that cannot be had
	version      uint16
	own          bool // see peer
}

func (m matrix) row(t *testing.T) row {
	t.Helper()
	r := row{version: strings.TrimPrefix(tls.VersionName(m.version), "TLS "), keyUpdate: "–", reset: "–", killed: "–", refused: "–"}
	at := m.start(t)
	if m.own {
		m.terminal(t, &r)
		return r
	}
	state := newState(t, at.addr, m.doc)
	r.resumes = m.resumption(t, state)
	r.ours = m.weEndFirst(t, state)
	r.theirs = m.itEndsFirst(t, state)
	r.reset = m.resetBehind(t, state)
	if m.foreign.CertPEM != "" {
		r.refused = m.refusal(t, at.addr)
	}
	if at.kill != nil {
		c := open(t, state)
		exchange(t, c, cmdHold, cmdHold)
		at.kill()
		r.killed = cut(t, c)
	}
	return r
}

// newState makes a State whose only gateway is the peer.
func newState(t *testing.T, addr string, doc mesh.Document) *tlsstate.State {
	t.Helper()
	web, err := mesh.ParseUpstream("web:1")
	ok(t, err)
	state, err := tlsstate.New(tlsstate.Config{Upstreams: []mesh.Upstream{web}, Gateways: []string{addr}, Source: source(certtest.Encode(t, doc))})
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		state.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		state.Close()
	})
	return state
}

// source is a store with one document.
type source []byte

func (s source) Fetch(context.Context) ([]byte, error) { return append([]byte(nil), s...), nil }

func dial(t *testing.T, state *tlsstate.State) (*tlsstate.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := state.Dial(ctx, 0)
	if err == nil {
		t.Cleanup(func() { _ = c.Reset() })
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

func open(t *testing.T, state *tlsstate.State) *tlsstate.Conn {
	t.Helper()
	c, err := dial(t, state)
	ok(t, err)
	return c
}

// exchange sends something and wants an answer.
func exchange(t *testing.T, c *tlsstate.Conn, send, want string) {
	t.Helper()
	_, err := io.WriteString(c, send)
	ok(t, err)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("after %q came %q, %v; want %q", send, got, err, want)
	}
}

// resumption makes three connections, one after the other.
func (m matrix) resumption(t *testing.T, state *tlsstate.State) string {
	t.Helper()
	var resumed []string
	for i := range 3 {
		c := open(t, state)
		if i > 0 {
			resumed = append(resumed, fmt.Sprint(c.Resumed()))
		}
		exchange(t, c, cmdEcho+"hello", "hello") // tickets come before the answer
		_ = c.Close()
	}
	st := state.Stats()
	if st.Handshakes != 3 {
		t.Errorf("%d handshakes are counted", st.Handshakes)
	}
	return inWords(resumed, st.Resumed)
}

func inWords(resumed []string, counted int64) string {
	switch counted {
	case int64(len(resumed)):
		return "every time"
	case 0:
		return "no: full handshakes"
	}
	return fmt.Sprintf("%d of %d", counted, len(resumed))
}

// weEndFirst half-closes, and looks whether the peer's side hears of it and can still answer (R6). Not every server can; then
// it must be seen as what it is.
func (m matrix) weEndFirst(t *testing.T, state *tlsstate.State) string {
	t.Helper()
	c := open(t, state)
	_, err := io.WriteString(c, cmdCount+strings.Repeat("x", 50_000))
	ok(t, err)
	ok(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	switch {
	case err == nil && string(got) == "50000\n":
		return "heard, and answered after it"
	case err == nil:
		return fmt.Sprintf("a clean end after %d bytes: the answer is lost", len(got))
	}
	return "no answer: " + kind(t, err)
}

// itEndsFirst has the peer's application end in order after an answer.
func (m matrix) itEndsFirst(t *testing.T, state *tlsstate.State) string {
	t.Helper()
	c := open(t, state)
	exchange(t, c, cmdBye, cmdBye)
	return "seen as " + ended(t, c)
}

// resetBehind has the application behind the peer reset. Whether the peer passes that on is up to it; if it says close_notify, nobody
// can know better.
func (m matrix) resetBehind(t *testing.T, state *tlsstate.State) string {
	t.Helper()
	c := open(t, state)
	exchange(t, c, cmdReset, cmdReset)
	_, err := io.WriteString(c, "go\n")
	ok(t, err)
	return "seen as " + ended(t, c)
}

// refusal dials with a certificate that the peer cannot trust. It must not look like a connection that ended in order.
func (m matrix) refusal(t *testing.T, addr string) string {
	t.Helper()
	state := newState(t, addr, m.foreign)
	c, err := dial(t, state)
	if err != nil {
		return "handshake fails: " + kind(t, err)
	}
	_, _ = io.WriteString(c, cmdEcho+"hello")
	got, err := io.ReadAll(c)
	if len(got) > 0 {
		t.Errorf("a client that nobody knows got %q", got)
	}
	if err == nil {
		return "after the handshake: a clean end without a byte"
	}
	return "after the handshake: " + kind(t, err)
}

// cut reads to the end of a connection whose other end died, which must not look like an orderly one (R5).
func cut(t *testing.T, c net.Conn) string {
	t.Helper()
	_, err := io.ReadAll(c)
	if err == nil {
		t.Error("the stream was cut, and looks complete (R5)")
		return "a clean end"
	}
	return kind(t, err)
}

func ended(t *testing.T, c net.Conn) string {
	t.Helper()
	rest, err := io.ReadAll(c)
	if len(rest) > 0 {
		t.Errorf("more came: %q", rest)
	}
	if err == nil {
		return "a clean end"
	}
	return kind(t, err)
}

// kind is an error in a word or two. A timeout is none that anybody should see here.
func kind(t *testing.T, err error) string {
	t.Helper()
	var timeout net.Error
	text := err.Error()
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		t.Errorf("nothing happened for %v", patience)
		return "silence"
	case errors.Is(err, tlsstate.ErrTruncated):
		return "cut, no close_notify"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case strings.Contains(text, "remote error: tls: "):
		_, alert, _ := strings.Cut(text, "remote error: tls: ")
		return "alert “" + alert + "”"
	}
	return text
}

// terminal asks a peer whose application is the terminal that it runs in: s_server, which serves one connection at a time and
// ends each when we do.
func (m matrix) terminal(t *testing.T, r *row) {
	t.Helper()
	at := m.start(t)
	state := newState(t, at.addr, m.doc)
	var resumed []string
	for i := range 3 {
		c := open(t, state)
		if i > 0 {
			resumed = append(resumed, fmt.Sprint(c.Resumed()))
		}
		typed(t, at, c, "hello")
		if i == 2 && m.version == tls.VersionTLS13 {
			// k is a KeyUpdate, K one that asks for ours too (RFC 8446 section 4.6.3). Both ways go on after each.
			for _, command := range []string{"k", "K"} {
				at.line(command)
				typed(t, at, c, "after "+command)
			}
			r.keyUpdate = "both kinds pass"
		}
		ok(t, c.CloseWrite())
		if i == 0 {
			rest, err := io.ReadAll(c)
			if err != nil {
				r.ours = "heard; it ends too: " + kind(t, err)
			} else {
				r.ours = fmt.Sprintf("heard; it ends too: a clean end, %d bytes", len(rest))
			}
		}
		_ = c.Close()
	}
	r.resumes = inWords(resumed, state.Stats().Resumed)
	r.refused = m.refusal(t, at.addr)

	c := open(t, state)
	typed(t, at, c, "hello")
	at.line("q") // it closes the socket under the session
	_, err := io.ReadAll(c)
	if err == nil {
		r.theirs = "seen as a clean end"
	} else {
		r.theirs = "seen as " + kind(t, err) + " (`q` sends no close_notify)"
	}
	last := m.start(t)
	c = open(t, newState(t, last.addr, m.doc))
	typed(t, last, c, "hello")
	last.kill()
	r.killed = cut(t, c)
}

// typed has a line typed at the peer's terminal, and wants it to arrive; and one of ours to be taken.
func typed(t *testing.T, at running, c *tlsstate.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text+"\n")
	ok(t, err)
	at.line(text)
	got := make([]byte, len(text)+1)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text+"\n" {
		t.Fatalf("typed %q, got %q, %v", text, got, err)
	}
}
