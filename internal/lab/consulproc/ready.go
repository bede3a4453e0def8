// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// startLimit bounds a start whose context has no earlier end. A server elects itself in two seconds; a second
	// datacenter takes some more, to find the first and to copy its tokens.
	startLimit = time.Minute
	// startAttempts is how many sets of ports are tried.
	startAttempts = 5
	// pollInterval is how often a start looks.
	pollInterval = 50 * time.Millisecond
	// askLimit bounds one look: a server without a leader holds some requests for seconds.
	askLimit = 5 * time.Second
)

// await returns when ready says nil, or an error that wraps ErrNotReady: when the program ended, or when ctx did. The
// program is left as it is.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			err = p.err
			if err == nil {
				err = errors.New("it exited with code 0")
			}
			return p.notReady(err)
		case <-ctx.Done():
			return p.notReady(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		case <-tick.C:
		}
		if p.output.saysPortTaken() {
			return p.notReady(errPortTaken)
		}
	}
}

func (p *process) notReady(err error) error {
	if p.output.saysPortTaken() {
		err = errPortTaken
	}
	return fmt.Errorf("%w: %w; it said last:\n%s", ErrNotReady, err, p.output)
}

// ready says nil once the server leads, signs certificates and knows its token.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var leader string
	if err := s.get(ctx, "/v1/status/leader", &leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("it has no leader")
	}
	var roots struct{ ActiveRootID string }
	if err := s.get(ctx, "/v1/connect/ca/roots", &roots); err != nil {
		return err
	}
	if roots.ActiveRootID == "" {
		return errors.New("it has no active root")
	}
	if s.token == "" {
		return nil
	}
	var token struct{ AccessorID string }
	return s.get(ctx, "/v1/acl/token/self", &token)
}

func (s *Server) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr()+path, http.NoBody)
	if err != nil {
		return err
	}
	if s.token != "" {
		req.Header.Set("X-Consul-Token", s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %s", path, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}
