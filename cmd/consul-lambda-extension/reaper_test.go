// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	extension "github.com/consul-lambda/consul-lambda/cmd/consul-lambda-extension"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// connections is how many the tests below make: 1,000, or REAPER_CONNECTIONS. The full number is
//
//	REAPER_CONNECTIONS=10000 go test -race -run 'SparesAreKilled|MissesItsMoment' ./cmd/consul-lambda-extension
//
// which takes a minute and a half on two cores.
func connections(t testing.TB) int {
	t.Helper()
	text := os.Getenv("REAPER_CONNECTIONS")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	ok(t, err)
	return n
}

var ends = []meshsim.End{meshsim.EndNotify, meshsim.EndFIN, meshsim.EndRST}

// R15, R7: a reaper ends spare connections at random moments, by close_notify, FIN and reset, also in the very moment
// before they would be handed out: connections wait for it to be done, and all connect at once then. No connection fails,
// the service gets every byte of every connection once, so does the function, and in the end neither a goroutine nor a
// descriptor is left over. It is the whole extension, run by this process so that both can be counted.
//
// The reaper never ends a connection that is in use: what becomes of one that it takes for idle a moment too late shows
// TestAReaperThatMissesItsMomentCausesAReset.
func TestNoConnectionFailsWhileSparesAreKilledAtRandom(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, atService := range map[string]bool{"at the gateway": false, "at the service": true} {
		t.Run(name, func(t *testing.T) {
			w, book := newLedgerWorld(t, 1, 0)
			kill := func() { w.Mesh.Gateway.Kill(1+rand.N(3), 0, ends[1+rand.N(2)]) } // it has no keys for a close_notify
			changes := env{"CONSUL_EXTENSION_WARM_CONNECTIONS": "3"}
			if atService { // without a gateway between them, what it does has arrived when it is done
				changes["CONSUL_MESH_GATEWAY_URI"] = w.Sidecar(ledgerName(0)).Addr()
				kill = func() { w.Sidecar(ledgerName(0)).Drop(ends[rand.N(3)]) }
			}
			x := runHere(t, w, changes)
			ok(t, exchange(t.Context(), w.Addr(ledgerName(0)), book.next()))
			before := settledCounts()

			var inUse sync.RWMutex // held by connections for reading, by the reaper for writing
			var kills atomic.Int64
			total := connections(t)
			began := time.Now()
			stop := every(func() time.Duration { return rand.N(4 * time.Millisecond) }, func() {
				inUse.Lock()
				defer inUse.Unlock()
				kill()
				kills.Add(1)
			})
			err := crowd(t.Context(), 4, total, func(ctx context.Context, _ int) error {
				pauseFor(ctx, rand.N(6*time.Millisecond))
				inUse.RLock()
				defer inUse.RUnlock()
				return exchange(ctx, w.Addr(ledgerName(0)), book.next())
			})
			stop()
			ok(t, err)
			took := time.Since(began)
			book.check(t, total+1)
			before.check(t)
			st := x.end(t)
			if st.Spares < int64(total)/20 {
				t.Errorf("%d spares were used by %d connections: the test shows too little", st.Spares, total)
			}
			t.Logf("%d connections in %v, %d of them with a spare, while a reaper came %d times: none failed, %+v before and no more after",
				total, took.Round(time.Millisecond), st.Spares, kills.Load(), before)
		})
	}
}

// A service that ends what was idle for a time cannot know that the function's first bytes are on their way. A spare that
// was handed out just before its end arrives is then lost with what was sent on it, as any connection is that its peer ends
// at that moment; sending it again could do twice what was to be done once. This counts how often that is, with services that
// end what was idle for 50 ms, and a function that connects every 30 to 70 ms, so that each spare is handed out about when
// it ends. What it demands is that nothing worse happens: a connection fails only if an idle one of its service was ended,
// and by a reset; no answer is cut and looks complete, and nothing that the function sent arrives twice.
//
// One failure is no reset: a function that has ended its own direction, and got no byte, gets the service's end as it is.
// The service may have had nothing to say (see errNoAnswer in proxy/errors.go).
func TestAReaperThatMissesItsMomentCausesAReset(t *testing.T) {
	if !alone(t) {
		return
	}
	const services, idle = 16, 50 * time.Millisecond
	w, book := newLedgerWorld(t, services, idle)
	x := runHere(t, w, nil)
	total := connections(t) / 2
	before := settledCounts()
	var failed [services]int // each belongs to one goroutine
	var empty atomic.Int64
	began := time.Now()
	err := crowd(t.Context(), services, total, func(ctx context.Context, i int) error {
		pauseFor(ctx, idle-20*time.Millisecond+rand.N(40*time.Millisecond))
		err := exchange(ctx, w.Addr(ledgerName(i)), book.next())
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errEmpty):
			empty.Add(1)
		case !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
			return err
		}
		failed[i]++
		return nil
	})
	ok(t, err)
	took := time.Since(began)
	failures, reaped := 0, 0
	for i := range failed {
		n := book.reaped(ledgerName(i))
		failures, reaped = failures+failed[i], reaped+n
		if failed[i] > n {
			t.Errorf("%d connections to a service failed that ended %d", failed[i], n)
		}
	}
	book.check(t, total-failures)
	before.check(t)
	st := x.end(t)
	if st.Spares < int64(total)/20 || reaped == 0 { // on a slow machine a replacement takes longer than the pause
		t.Errorf("%d spares were used and %d ended: the test shows too little", st.Spares, reaped)
	}
	t.Logf("%d connections in %v, %d of them with a spare, while services ended %d idle connections: %d failed, %d of these by an end without an answer",
		total, took.Round(time.Millisecond), st.Spares, reaped, failures, empty.Load())
}

// alone reports whether the test has this process for itself. If not, it has run the test in a process that has, beside the other
// tests of this one: what a process holds can be counted only where nothing else comes and goes. It is for the first line of a test.
func alone(t *testing.T) bool {
	t.Helper()
	const isAlone = "CONSUL_LAMBDA_TEST_ALONE"
	if os.Getenv(isAlone) != "" {
		return true
	}
	t.Parallel()
	program, err := os.Executable()
	ok(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=^"+t.Name()+"$")
	if end, limited := t.Deadline(); limited {
		cmd.Args = append(cmd.Args, "-test.timeout="+(time.Until(end)-patience/4).String()) // it tells where it hangs before this one ends
	}
	cmd.Env = append(os.Environ(), isAlone+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("in a process of its own:\n| %s", strings.ReplaceAll(string(out), "\n", "\n| ")) // go test is not to take it for its own
	ok(t, err)
	if !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Error("it did not run")
	}
	return false
}

// crowd does f total times, so many at a time, and tells it which of these it is. It ends early with the first error.
func crowd(ctx context.Context, workers, total int, f func(ctx context.Context, worker int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var begun atomic.Int64
	for i := range workers {
		g.Go(func() error {
			for begun.Add(1) <= int64(total) && ctx.Err() == nil {
				if err := f(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// every does f again and again, with pauses, until the function that it returns was called.
func every(pause func() time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			if pauseFor(ctx, pause()); ctx.Err() != nil {
				return
			}
			f()
		}
	})
	return func() { cancel(); running.Wait() }
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// exchange connects, sends what belongs to the number, and wants exactly that back. Of the numbers, the even ones end their
// direction with what they send, the odd ones once they have all of it back.
func exchange(ctx context.Context, addr string, id uint64) error {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connection %d: %w", id, err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := converse(c.(*net.TCPConn), payload(id), id%2 == 0); err != nil {
		return fmt.Errorf("connection %d: %w", id, err)
	}
	return nil
}

// errEmpty is an answer without a byte that ends as if it were complete.
var errEmpty = errors.New("nothing came back but a clean end")

func converse(c *net.TCPConn, sent []byte, endFirst bool) error {
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		if endFirst {
			err = errors.Join(err, c.CloseWrite())
		}
		wrote <- err
	}()
	got := make([]byte, len(sent))
	n, err := io.ReadFull(c, got)
	if err != nil {
		_ = c.SetWriteDeadline(time.Unix(1, 0))
	} else if !endFirst {
		err = c.CloseWrite()
	}
	var rest []byte
	if err == nil {
		rest, err = io.ReadAll(c)
	}
	writeErr := <-wrote
	switch {
	case errors.Is(writeErr, syscall.ECONNRESET): // the kernel tells a reset once, and what reads next sees an end
		return writeErr
	case err == io.EOF && endFirst:
		return errEmpty
	case err != nil:
		return fmt.Errorf("after %d of %d bytes: %w", n, len(sent), err)
	case writeErr != nil:
		return writeErr
	case !bytes.Equal(got, sent) || len(rest) > 0:
		return fmt.Errorf("%d bytes came back, and not the %d that were sent", n+len(rest), len(sent))
	}
	return nil
}

// payload is what connection id sends: the number, and random bytes of its own; mostly few, sometimes many.
func payload(id uint64) []byte {
	rng := rand.New(rand.NewPCG(id, 15))
	size := rng.IntN(2000)
	if rng.IntN(20) == 0 {
		size = rng.IntN(200_000)
	}
	b := binary.BigEndian.AppendUint64(nil, id)
	for len(b) < size {
		b = binary.BigEndian.AppendUint64(b, rng.Uint64())
	}
	return b
}

// ledger is what echo services were sent, by the number of the connection.
type ledger struct {
	ids atomic.Uint64

	mu    sync.Mutex
	whole map[uint64]int // connections that brought all of the number's payload, and their end
	cut   int            // connections that brought part of one, and no end
	wrong []string       // what is neither
	ended map[string]int // idle connections that were, by service
}

func ledgerName(i int) string { return "ledger-" + strconv.Itoa(i) }

// newLedgerWorld makes a world with so many services that keep a ledger together, and nothing else for the function to
// call. They end connections on which nothing has come for the time given; 0 means never.
func newLedgerWorld(t testing.TB, services int, idle time.Duration) (*lab.World, *ledger) {
	t.Helper()
	w, err := lab.New(t.Context(), lab.Config{})
	ok(t, err)
	t.Cleanup(func() { ok(t, w.Close()) })
	l := &ledger{whole: make(map[uint64]int), ended: make(map[string]int)}
	for i := range services {
		addService(t, w, ledgerName(i), 7200+i, meshsim.SidecarConfig{Handler: func(c meshsim.Conn) {
			if idle > 0 {
				c = l.awaitByte(c, ledgerName(i), idle)
			}
			if c != nil {
				l.keep(c)
			}
		}})
	}
	return w, l
}

func (l *ledger) next() uint64 { return l.ids.Add(1) }

// awaitByte is what a service does that ends idle connections: it waits for the first byte, and returns the connection
// with it; or ends it and returns nil.
func (l *ledger) awaitByte(c meshsim.Conn, service string, idle time.Duration) meshsim.Conn {
	_ = c.SetReadDeadline(time.Now().Add(idle))
	first := make([]byte, 1)
	_, err := io.ReadFull(c, first)
	if err == nil {
		_ = c.SetReadDeadline(time.Time{})
		return begun{c, io.MultiReader(bytes.NewReader(first), c)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.mu.Lock()
		l.ended[service]++
		l.mu.Unlock()
		raw := c.(*tls.Conn).NetConn().(*net.TCPConn)
		switch ends[rand.N(len(ends))] {
		case meshsim.EndFIN:
			_ = raw.CloseWrite()
		case meshsim.EndRST:
			_ = raw.SetLinger(0)
			_ = raw.Close()
		}
	}
	return nil // the sidecar closes it, with a close_notify if that can be sent
}

// begun is a connection of which something was read already.
type begun struct {
	meshsim.Conn
	all io.Reader
}

func (b begun) Read(p []byte) (int, error) { return b.all.Read(p) }

// keep echoes what comes, and notes it before it ends its direction.
func (l *ledger) keep(c meshsim.Conn) {
	var got bytes.Buffer
	_, err := io.Copy(c, io.TeeReader(c, &got))
	l.note(got.Bytes(), err)
	_ = c.CloseWrite()
}

func (l *ledger) note(got []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(got) == 0: // a spare
	case err != nil:
		l.cut++
	case len(got) < 8 || !bytes.Equal(got, payload(binary.BigEndian.Uint64(got))):
		l.wrong = append(l.wrong, fmt.Sprintf("%d bytes that no connection sent", len(got)))
	default:
		l.whole[binary.BigEndian.Uint64(got)]++
	}
}

// reaped returns how many idle connections the service has ended.
func (l *ledger) reaped(service string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended[service]
}

// check demands that so many connections have arrived, each whole and once.
func (l *ledger) check(t testing.TB, want int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("the services got %s, and %d more", l.wrong[0], len(l.wrong)-1)
	}
	for id, n := range l.whole {
		if n > 1 {
			t.Errorf("connection %d arrived %d times", id, n)
		}
	}
	if len(l.whole) < want || len(l.whole)+l.cut > int(l.ids.Load()) {
		t.Errorf("%d connections arrived whole, want %d; %d were cut, of %d", len(l.whole), want, l.cut, l.ids.Load())
	}
}

// counts are what this process holds.
type counts struct{ Goroutines, Descriptors int }

func countHeld() counts {
	runtime.GC() // pipes of splice are closed by finalizers
	fds, _ := os.ReadDir("/proc/self/fd")
	return counts{runtime.NumGoroutine(), len(fds)}
}

// settledCounts is what the process holds once that has not changed for a while.
func settledCounts() counts {
	last, since := countHeld(), time.Now()
	waittest.Within(patience, func() bool {
		time.Sleep(20 * time.Millisecond) // each count runs the collector
		if now := countHeld(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
	return last
}

// check waits until the process holds no more than before.
func (before counts) check(t testing.TB) {
	t.Helper()
	var now counts
	if !waittest.Within(patience, func() bool {
		now = countHeld()
		return now.Goroutines <= before.Goroutines && now.Descriptors <= before.Descriptors
	}) {
		buf := make([]byte, 1<<20)
		t.Fatalf("%+v are held, %+v were before:\n%s", now, before, buf[:runtime.Stack(buf, true)])
	}
}

// here is the extension, run by this process.
type here struct {
	log      waittest.Log
	shutdown chan struct{} // closed to send SHUTDOWN
	exit     chan int
}

// runHere starts the extension of the world's function, with Lambda's part played by a small server, and returns when it
// is ready. Only services named as ledgers are its upstreams.
func runHere(t testing.TB, w *lab.World, changes env) *here {
	t.Helper()
	x := &here{shutdown: make(chan struct{}), exit: make(chan int, 1)}
	ready := make(chan struct{}, 1)
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/register") {
			rw.Header().Set("Lambda-Extension-Identifier", "11111111-2222-3333-4444-555555555555")
			_, _ = io.WriteString(rw, `{"functionName":"checkout"}`)
			return
		}
		select {
		case ready <- struct{}{}:
		default:
		}
		select {
		case <-x.shutdown:
		case <-r.Context().Done():
			return
		}
		_, _ = fmt.Fprintf(rw, `{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":%d}`, time.Now().Add(2*time.Second).UnixMilli())
	}))
	account := w.Options()
	vars := function(w, env{
		"AWS_LAMBDA_RUNTIME_API": strings.TrimPrefix(api.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME": "checkout",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": account.AccessKeyID, "AWS_SECRET_ACCESS_KEY": account.SecretAccessKey, "AWS_SESSION_TOKEN": account.SessionToken,
	}).Env
	for name, value := range changes {
		vars[name] = value
	}
	var upstreams []string
	for _, u := range strings.Split(vars["CONSUL_SERVICE_UPSTREAMS"], ",") {
		if strings.HasPrefix(u, "ledger-") {
			upstreams = append(upstreams, u)
		}
	}
	vars["CONSUL_SERVICE_UPSTREAMS"] = strings.Join(upstreams, ",")
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		x.exit <- extension.Run(ctx, []string{"/opt/extensions/consul-lambda-extension"}, environ, &x.log)
	}()
	t.Cleanup(func() {
		cancel()
		x.exit <- <-x.exit
		api.Close()
		if t.Failed() {
			t.Log(x.log.String())
		}
	})
	select {
	case <-ready:
	case code := <-x.exit:
		x.exit <- code
		t.Fatalf("the extension ended with code %d", code)
	case <-time.After(patience):
		t.Fatal("the extension is not ready in time")
	}
	return x
}

// stopped is what the extension says at its end.
type stopped struct {
	Msg         string           `json:"msg"`
	Connections int64            `json:"connections"`
	Handshakes  int64            `json:"handshakes"`
	Spares      int64            `json:"spares_used"`
	Ended       map[string]int64 `json:"ended"`
}

// end sends SHUTDOWN, and returns what the extension says then.
func (x *here) end(t testing.TB) (last stopped) {
	t.Helper()
	close(x.shutdown)
	select {
	case code := <-x.exit:
		x.exit <- code
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(patience):
		t.Fatal("the extension does not end")
	}
	for line := range strings.Lines(x.log.String()) {
		var st stopped
		ok(t, json.Unmarshal([]byte(line), &st))
		if st.Msg == "stopped" {
			last = st
		}
	}
	return last
}
