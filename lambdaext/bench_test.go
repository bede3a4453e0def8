// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"net"
	"net/http"
	"testing"
)

// BenchmarkRegister asks what the path to the first Next costs: connection, registration, one event, and the end of the
// connection. It cannot see what the first use of net/http costs in a new process, and the server's share is in it.
func BenchmarkRegister(b *testing.B) {
	addr := script(b, func(_, _ int, _ *http.Request, w net.Conn) bool { return answer(w, 200, shutdownEvent) })
	b.ReportAllocs()
	for b.Loop() {
		c, err := Register(b.Context(), Config{RuntimeAPI: addr, Name: "consul-lambda-extension"}, Shutdown)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
