// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// R12: an error of Next, which is the API's and not ours, does not end the process: that would end the function.
func TestAnErrorOfNextDoesNotEndTheProcess(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/register") {
			w.Header().Set("Lambda-Extension-Identifier", "11111111-2222-3333-4444-555555555555")
			_, _ = io.WriteString(w, `{"functionName":"fn"}`)
			return
		}
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errorType":"Extension.InvalidExtensionState","errorMessage":"not now"}`)
		case 2:
			_, _ = io.WriteString(w, `no event at all`)
		case 3:
			_, _ = io.WriteString(w, `{"eventType":"INVOKE"}`)
		default:
			_, _ = io.WriteString(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
		}
	}))
	defer api.Close()
	code := run(t.Context(), []string{"/opt/extensions/consul-lambda-extension"}, []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(api.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME=fn",
		"CONSUL_MESH_GATEWAY_URI=127.0.0.1:1", "CONSUL_EXTENSION_DATA_PREFIX=/mesh",
	}, io.Discard)
	if code != 0 || asked.Load() != 4 {
		t.Errorf("exit code %d after %d calls of Next, want 0 after 4: two failures, an event of no interest and SHUTDOWN", code, asked.Load())
	}
}
