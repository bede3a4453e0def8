// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

const (
	// refreshEvery and dialTimeout are what the demo configures, to be over soon.
	refreshEvery = time.Second
	dialTimeout  = time.Second

	// coldStarts is how many are made of each kind, for their median.
	coldStarts = 5

	// frozenLeaf is how long the leaf lives that a freeze outlasts.
	frozenLeaf = 4 * time.Second
)

// coldStart starts the function with and without the extension, and keeps one sandbox.
func (d *demo) coldStart(ctx context.Context, s *step) error {
	fn := d.world.Function()
	fn.Env["CONSUL_REFRESH_FREQUENCY"] = refreshEvery.String()
	fn.Env["CONSUL_EXTENSION_DIAL_TIMEOUT"] = dialTimeout.String()
	alone := fn
	alone.Extensions = nil
	var with, without, register, ready, own []time.Duration
	for range coldStarts {
		d.kill()
		box, err := d.world.ColdStart(ctx, alone)
		if err != nil {
			return fmt.Errorf("starting the function without the extension: %w", err)
		}
		without = append(without, box.Init().Total)
		box.Kill()
		if d.box, err = d.world.ColdStart(ctx, fn); err != nil {
			var failed *lambdasim.InitError
			if errors.As(err, &failed) {
				d.lines = failed.Logs
			}
			return fmt.Errorf("starting the function: %w", err)
		}
		report := d.box.Init()
		with = append(with, report.Total)
		register = append(register, report.Extensions[0].Registered)
		ready = append(ready, report.Extensions[0].Ready)
		own = append(own, report.RuntimeReady-report.RuntimeStarted)
	}
	d.uses = 1
	s.tell("Init, all of it", median(with), fmt.Sprintf("median of %d, as those below", coldStarts))
	s.tell("without the extension", median(without), "the same function alone")
	s.tell("extension, to register", median(register), "only this delays the start of the function")
	s.tell("extension, to ready", median(ready), "has credentials, and a connection open to each service")
	s.tell("function's own Init", median(own), "runs meanwhile")
	events := d.box.Init().Extensions[0].Events
	s.tell("registered for", strings.Join(events, ","), "invocations cost the extension nothing")
	return want(slices.Equal(events, []string{"SHUTDOWN"}), "registration for SHUTDOWN only", events)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// calls shows HTTP and TCP, and who is who.
func (d *demo) calls(ctx context.Context, s *step) error {
	var first, rest time.Duration
	const requests = 20
	var hello lab.Hello
	for i := range requests {
		r, err := d.invokeOne(ctx, call{HTTP: "http://" + d.world.Addr(lab.Web) + "/"})
		if err != nil {
			return err
		}
		if err := want(r.Error == "" && r.Status == 200 && r.Reused == (i > 0), "HTTP 200, on a kept connection from the second request on", r); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(r.Body), &hello); err != nil {
			return fmt.Errorf("reading the answer of web: %w", err)
		}
		if i == 0 {
			first = r.took()
		} else {
			rest += r.took()
		}
	}
	s.tell("HTTP, first request", first, "on a connection that was open before the function started")
	s.tell("HTTP, kept connection", rest/(requests-1), fmt.Sprintf("mean of %d", requests-1))
	s.tell("web was called by", hello.Caller, "as its sidecar sees it: the function's leaf says so")
	s.tell("the extension demands", d.world.Sidecar(lab.Web).ID().String(), "of whoever answers: a gateway cannot lead it astray")
	if err := want(hello.Caller == d.world.FunctionID().String(), d.world.FunctionID().String(), hello.Caller); err != nil {
		return err
	}

	const n = 1 << 20
	r, err := d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Digest), SendBytes: n})
	if err != nil {
		return err
	}
	s.tell("TCP with half-close", size(r.SentBytes), fmt.Sprintf("in %.1f ms; then the end, and only then the answer", r.Milliseconds))
	s.tell("SHA-256 as answered", short(r.Body), "is that of what was sent")
	return want(r.Error == "" && r.SentBytes == n && r.Body == r.SentSHA256, "the SHA-256 "+r.SentSHA256, r)
}

// rotation changes all credentials while a stream runs.
func (d *demo) rotation(ctx context.Context, s *step) error {
	const n = 24_000
	type outcome struct {
		r   result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Echo), SendBytes: n, DripMS: 2})
		done <- outcome{r, err}
	}()
	for _, what := range []string{"new leaf", "new root and leaf", "new leaf"} {
		store, from := func() error { return d.storeLeaf(0) }, "the store"
		if what == "new root and leaf" {
			if err := d.world.RotateRoot(); err != nil {
				return err
			}
			store, from = func() error { return d.renew(ctx) }, "Consul, by a run of the registrator,"
		}
		begin := time.Now()
		if err := store(); err != nil {
			return err
		}
		if err := d.awaitLeaf(ctx); err != nil {
			return err
		}
		hello, err := d.greeting(ctx)
		if err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		s.tell(what, time.Since(begin), "from "+from+" into use; a new connection shows leaf "+short(hello.Leaf))
		if err := want(hello.Leaf == d.serial, "leaf "+d.serial+" on a new connection", hello.Leaf); err != nil {
			return err
		}
	}
	select {
	case o := <-done:
		if o.err != nil {
			return o.err
		}
		s.tell("the stream", size(o.r.Bytes), fmt.Sprintf("there and back, 16 bytes at a time, for %.1f s", o.r.Milliseconds/1000))
		s.tell("SHA-256 as echoed", short(o.r.SHA256), "is that of what was sent: nothing lost, doubled or swapped")
		return want(o.r.Error == "" && o.r.SentBytes == n && o.r.SHA256 == o.r.SentSHA256, fmt.Sprintf("%d bytes with SHA-256 %s", n, o.r.SentSHA256), o.r)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freeze outlasts a leaf.
func (d *demo) freeze(ctx context.Context, s *step) error {
	if err := d.storeLeaf(frozenLeaf); err != nil {
		return err
	}
	old := d.leaf
	if err := d.awaitLeaf(ctx); err != nil {
		return err
	}
	if err := d.box.Freeze(ctx); err != nil {
		return err
	}
	frozen := time.Now()
	expires := old.Certificate.Leaf.NotAfter
	s.tell("leaf in use", short(old.Serial()), fmt.Sprintf("expires in %.1f s; every thread is stopped", time.Until(expires).Seconds()))
	if err := d.storeLeaf(0); err != nil {
		return err
	}
	s.tell("leaf in the store", short(d.leaf.Serial()), "nobody reads it yet")
	if err := sleep(ctx, time.Until(expires)+500*time.Millisecond); err != nil {
		return err
	}
	s.tell("frozen for", time.Since(frozen), fmt.Sprintf("the leaf in use expired %.1f s ago", time.Since(expires).Seconds()))
	results, err := d.invoke(ctx, call{TCP: d.world.Addr(lab.Greeter)}, call{HTTP: "http://" + d.world.Addr(lab.Web) + "/"})
	if err != nil {
		return err
	}
	var hello lab.Hello
	if err := want(results[0].Error == "" && json.Unmarshal([]byte(results[0].Body), &hello) == nil, "a greeting over a new connection", results[0]); err != nil {
		return err
	}
	s.tell("first call after the thaw", results[0].took(), "a new connection, with leaf "+short(hello.Leaf))
	s.tell("kept HTTP connection", results[1].took(), "from before the freeze")
	d.uses++
	if err := want(results[1].Error == "" && results[1].Status == 200, "HTTP 200", results[1]); err != nil {
		return err
	}
	return want(hello.Leaf == d.leaf.Serial(), "the new leaf "+d.leaf.Serial(), hello.Leaf)
}

// denied calls a service that must not be called.
func (d *demo) denied(ctx context.Context, s *step) error {
	r, err := d.invokeOne(ctx, call{HTTP: "http://" + d.world.Addr(lab.Denied) + "/"})
	if err != nil {
		return err
	}
	s.tell("the function sees", lastPart(r.Error), "not an empty answer, which could be taken for the service's own")
	if err := want(isReset(r), "a reset", r); err != nil {
		return err
	}
	return d.tellLog(ctx, s, lab.Denied)
}

// noGateway takes the gateway away in two ways, and gives it back.
func (d *demo) noGateway(ctx context.Context, s *step) error {
	gateway := d.world.Mesh.Gateway
	if err := gateway.Unreachable(true); err != nil {
		return err
	}
	gateway.Kill(-1, 0, meshsim.EndRST) // what is open would work on
	if err := d.quiet(ctx); err != nil {
		return err
	}
	r, err := d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Echo), Send: "is anybody there?"})
	if err != nil {
		return err
	}
	s.tell("packets vanish: reset after", r.took(), fmt.Sprintf("CONSUL_EXTENSION_DIAL_TIMEOUT is %v", dialTimeout))
	if err := want(isReset(r) && r.took() < dialTimeout+time.Second, fmt.Sprintf("a reset within %v", dialTimeout), r); err != nil {
		return err
	}
	if err := d.tellLog(ctx, s, lab.Echo); err != nil {
		return err
	}

	if err := gateway.Unreachable(false); err != nil {
		return err
	}
	gateway.Refuse()
	if r, err = d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Digest), Send: "is anybody there?"}); err != nil {
		return err
	}
	s.tell("port refuses: reset after", r.took(), "")
	if err := want(isReset(r), "a reset", r); err != nil {
		return err
	}
	if err := gateway.Reopen(ctx); err != nil {
		return err
	}
	if r, err = d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Echo), Send: "and now?"}); err != nil {
		return err
	}
	s.tell("the gateway is back: echo", r.took(), "nothing had to be restarted")
	return want(r.Error == "" && r.Body == "and now?", `the echo of "and now?"`, r)
}

// shutdown ends the sandbox while bytes are on their way.
func (d *demo) shutdown(ctx context.Context, s *step) error {
	const n = 16 << 20
	d.world.Collected.SetPace(2 * time.Millisecond)
	r, err := d.invokeOne(ctx, call{TCP: d.world.Addr(lab.Collector), SendBytes: n})
	if err != nil {
		return err
	}
	if err := want(r.Error == "" && r.SentBytes == n, fmt.Sprintf("%d bytes sent", n), r); err != nil {
		return err
	}
	arrived := d.world.Collected.Bytes()
	report, err := d.box.Shutdown(ctx, lambdasim.ReasonSpindown)
	if err != nil {
		return err
	}
	exit, _ := report.Exit(lab.ExtensionName)
	got, err := d.world.Collected.Next(ctx)
	if err != nil {
		return fmt.Errorf("waiting for the collector: %w", err)
	}
	s.tell("sent by the function", size(r.SentBytes), "then it answered, and was ended")
	s.tell("arrived before SHUTDOWN", size(arrived), "")
	s.tell("arrived in the end", size(got.Bytes), "all of it, with a proper end of the stream")
	s.tell("the sandbox ended within", report.Duration, "Lambda allows 2 s")
	s.tell("the extension exited with", exit.Code, "")
	if err := want(got.Err == nil && got.Bytes == n && hex.EncodeToString(got.SHA256[:]) == r.SentSHA256, fmt.Sprintf("%d bytes with SHA-256 %s, and their end", n, r.SentSHA256), fmt.Sprintf("%d bytes, %v", got.Bytes, got.Err)); err != nil {
		return err
	}
	return want(exit.Code == 0 && !exit.Killed, "exit code 0 before the deadline", fmt.Sprintf("%+v", exit))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
