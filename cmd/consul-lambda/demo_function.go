// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// call and result are those of the function's event and answer: see examples/mesh-function.
type call struct {
	HTTP      string `json:"http,omitempty"`
	TCP       string `json:"tcp,omitempty"`
	Send      string `json:"send,omitempty"`
	SendBytes int64  `json:"sendBytes,omitempty"`
	DripMS    int    `json:"dripMs,omitempty"`
}

type result struct {
	Status       int     `json:"status"`
	Reused       bool    `json:"reused"`
	Milliseconds float64 `json:"ms"`
	Body         string  `json:"body"`
	Bytes        int64   `json:"bytes"`
	SHA256       string  `json:"sha256"`
	SentBytes    int64   `json:"sentBytes"`
	SentSHA256   string  `json:"sentSha256"`
	Error        string  `json:"error"`
}

func (r result) took() time.Duration {
	return time.Duration(r.Milliseconds * float64(time.Millisecond))
}

// String is what is seen when something else was expected.
func (r result) String() string {
	return fmt.Sprintf("%s after %.1f ms: status %d, %d bytes sent, %d received: %.100q", cmp.Or(r.Error, "no error"), r.Milliseconds, r.Status, r.SentBytes, r.Bytes, r.Body)
}

func isReset(r result) bool {
	return strings.Contains(r.Error, "connection reset by peer") || strings.Contains(r.Error, "broken pipe")
}

// invoke makes the function do the calls, one after the other.
func (d *demo) invoke(ctx context.Context, calls ...call) ([]result, error) {
	event, err := json.Marshal(map[string]any{"calls": calls})
	if err != nil {
		return nil, err
	}
	answer, err := d.box.Invoke(ctx, event)
	if err != nil {
		return nil, fmt.Errorf("invoking the function: %w", err)
	}
	var response struct{ Results []result }
	if err := json.Unmarshal(answer.Payload, &response); err != nil || answer.FunctionError != "" || len(response.Results) != len(calls) {
		return nil, fmt.Errorf("the function answered %.200s", answer.Payload)
	}
	return response.Results, nil
}

func (d *demo) invokeOne(ctx context.Context, c call) (result, error) {
	results, err := d.invoke(ctx, c)
	if err != nil {
		return result{}, err
	}
	return results[0], nil
}

// lastPart is the cause of a wrapped error's text.
func lastPart(s string) string {
	parts := strings.Split(cmp.Or(s, "no error"), ": ")
	return parts[len(parts)-1]
}

// short is enough of a hash or a serial number to tell it from others.
func short(s string) string { return s[:min(len(s), 8)] }
