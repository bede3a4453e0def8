// SPDX-License-Identifier: MPL-2.0

package simhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves what h makes of a server, until the test ends.
func start(t testing.TB, h func(*simhttp.Server, http.ResponseWriter, *http.Request)) *simhttp.Server {
	t.Helper()
	s, err := simhttp.Listen("")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(s, w, r) }))
	t.Cleanup(s.Close)
	return s
}

func get(ctx context.Context, s *simhttp.Server) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr(), nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestAHungRequestIsAnsweredAfterRelease(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	s := start(t, func(s *simhttp.Server, w http.ResponseWriter, r *http.Request) {
		close(hung)
		if s.Hang(r) {
			_, _ = io.WriteString(w, "released")
		}
	})
	answer := make(chan string, 1)
	go func() {
		body, _ := get(t.Context(), s)
		answer <- body
	}()
	<-hung
	for { // what has not come as far as the gate yet is not released: that is what Release says
		s.Release()
		select {
		case body := <-answer:
			if body != "released" {
				t.Errorf("the answer is %q", body)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestCloseEndsWhatHangsAndSleepsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(*simhttp.Server, *http.Request) bool{
		"hanging":  (*simhttp.Server).Hang,
		"sleeping": func(s *simhttp.Server, r *http.Request) bool { return s.Sleep(r, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered, went := make(chan struct{}), make(chan bool, 1)
			s := start(t, func(s *simhttp.Server, _ http.ResponseWriter, r *http.Request) {
				close(entered)
				went <- wait(s, r)
			})
			failed := make(chan error, 1)
			go func() {
				_, err := get(t.Context(), s)
				failed <- err
			}()
			<-entered
			s.Close()
			select {
			case on := <-went: // Close waited for the handler
				if on {
					t.Error("the handler was told to answer")
				}
			default:
				t.Error("Close returned before the handler")
			}
			if err := <-failed; err == nil {
				t.Error("the client got an answer")
			}
		})
	}
}

func TestAClientThatLeavesEndsItsSleep(t *testing.T) {
	t.Parallel()
	entered, went := make(chan struct{}), make(chan bool, 1)
	s := start(t, func(s *simhttp.Server, _ http.ResponseWriter, r *http.Request) {
		close(entered)
		went <- s.Sleep(r, time.Hour)
	})
	ctx, leave := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := get(ctx, s)
		failed <- err
	}()
	<-entered
	leave()
	if <-went {
		t.Error("the handler was told to answer")
	}
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
}

func TestAResetIsATCPReset(t *testing.T) {
	t.Parallel()
	s := start(t, func(_ *simhttp.Server, w http.ResponseWriter, _ *http.Request) { simhttp.Reset(w) })
	if _, err := get(t.Context(), s); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %v", err)
	}
}
