// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	ok(t, err)
	t.Cleanup(s.Close)
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client returns an unmodified client, as the product uses it.
func client(t testing.TB, addr string, change ...func(*api.Config)) *api.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	cfg := &api.Config{Address: addr, Transport: tr}
	for _, f := range change {
		f(cfg)
	}
	c, err := api.NewClient(cfg)
	ok(t, err)
	return c
}

func withToken(secret string) func(*api.Config) { return func(c *api.Config) { c.Token = secret } }

// answer is a whole answer on the wire.
type answer struct {
	status int
	header http.Header
	body   string
}

// request makes one request on a connection of its own.
func request(t testing.TB, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := try(t, method, url, body, header...)
	ok(t, err)
	return a
}

func try(t testing.TB, method, url, body string, header ...string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	ok(t, err)
	r.Close = true
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// tree decodes JSON without loss.
func tree(t testing.TB, s string) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, s)
	}
	return v
}
