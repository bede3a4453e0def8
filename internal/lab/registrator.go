// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// Invocation is one time that the registrator was invoked.
type Invocation struct {
	// Event is what it was given.
	Event []byte
	// Try is 1, or more where Lambda repeated an event that had failed.
	Try int
	// Result is the registrator's answer, the zero value if there was none.
	Result lambdasim.Result
	// Err is Lambda's: the time was up, the process died. Nil: see Result.FunctionError.
	Err error
}

// Failed says whether Lambda would repeat it.
func (i Invocation) Failed() bool { return i.Err != nil || i.Result.FunctionError != "" }

// watched is the rule by which EventBridge picks the registrator's events, as deploy/terraform has it: an operation, with or without
// a date. A call that failed is not picked.
var watched = regexp.MustCompile(`^(Create|Delete)(Function|Alias)(20.*)?$|^(Tag|Untag)Resource(20.*)?$|^UpdateAlias(20.*)?$`)

// pauses are those before Lambda's second and third try of an event: a minute and two on AWS
// (docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html).
var pauses = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}

// onEvent delivers an event that the rule picks, up to three times. Events come one at a time, as they would to a function with a
// reserved concurrency of 1.
func (c *Control) onEvent(event []byte) {
	var e struct {
		Detail struct{ EventName, ErrorCode string }
	}
	if json.Unmarshal(event, &e) != nil || e.Detail.ErrorCode != "" || !watched.MatchString(e.Detail.EventName) {
		return
	}
	for try := 1; ; try++ {
		if i := c.invoke(c.life, event, try); !i.Failed() || try > len(pauses) || !sleep(c.life, pauses[try-1]) {
			return
		}
	}
}

// Invoke gives the registrator any payload and returns what it answers, after what is under way. It is tried once; the error is that
// of [lambdasim.Sandbox.Invoke], or of a cold start.
func (c *Control) Invoke(ctx context.Context, payload []byte) (lambdasim.Result, error) {
	i := c.invoke(ctx, payload, 1)
	return i.Result, i.Err
}

// Schedule is Invoke with the event of the schedule: a look at everything.
func (c *Control) Schedule(ctx context.Context) (lambdasim.Result, error) {
	return c.Invoke(ctx, c.place.ScheduledEvent("lambda-registrator-schedule"))
}

func (c *Control) invoke(ctx context.Context, event []byte, try int) Invocation {
	i := Invocation{Event: bytes.Clone(event), Try: try}
	box, err := c.sandbox(ctx)
	if err == nil {
		i.Result, err = box.Invoke(ctx, event)
	}
	i.Err = err
	c.mu.Lock()
	defer c.mu.Unlock()
	c.invocations = append(c.invocations, i)
	return i
}

// sandbox returns the registrator's sandbox, which is started if there is none.
func (c *Control) sandbox(ctx context.Context) (*lambdasim.Sandbox, error) {
	c.starting.Lock()
	defer c.starting.Unlock()
	if box := c.Sandbox(); box != nil {
		return box, nil
	}
	if err := c.life.Err(); err != nil {
		return nil, fmt.Errorf("lab: starting the registrator: %w", err)
	}
	options := c.role
	options.AutoFreeze = true
	box, err := lambdasim.Start(ctx, c.function, options)
	if err != nil {
		return nil, fmt.Errorf("lab: starting the registrator: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.box = box
	return box, nil
}

// Sandbox returns the registrator's sandbox: nil before the first invocation, and after Recycle. It is the Control's.
func (c *Control) Sandbox() *lambdasim.Sandbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.box
}

// Recycle ends the registrator's sandbox, and with it what the process remembers: the next invocation is a cold start.
func (c *Control) Recycle() {
	c.starting.Lock()
	defer c.starting.Unlock()
	c.mu.Lock()
	box := c.box
	c.box = nil
	c.mu.Unlock()
	if box != nil {
		box.Kill()
	}
}

// Invocations returns what the registrator was given so far, and what became of it, oldest first.
func (c *Control) Invocations() []Invocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.invocations)
}

// sleep waits for d. It returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
