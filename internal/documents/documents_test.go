// SPDX-License-Identifier: MPL-2.0

package documents

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, cfg Config) (*Documents, *ssmsim.Server) {
	t.Helper()
	srv, err := ssmsim.Start(ssmsim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	env := map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "none", "AWS_ENDPOINT_URL_SSM": srv.URL(),
	}
	cfg.Store, err = paramstore.New(paramstore.Config{Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.Store.Close)
	return New(cfg), srv
}

// G4, G5: a page shows names, versions and who wrote them.
func TestPageShowsWhatIsStoredAndWhoseItIs(t *testing.T) {
	t.Parallel()
	d, srv := open(t, Config{Prefix: "/mesh"})
	srv.Put("/mesh/theirs", "x")
	srv.Put("/other/theirs", "x")
	for _, want := range []int64{1, 2} {
		if v, err := d.Put(t.Context(), "/mesh/ours", []byte("{}")); v != want || err != nil {
			t.Fatalf("put: version %d, %v", v, err)
		}
	}
	page, next, err := d.Page(t.Context(), "")
	want := []registrator.Stored{{Path: "/mesh/ours", Version: 2, Ours: true}, {Path: "/mesh/theirs", Version: 1}}
	if diff := cmp.Diff(want, page); diff != "" || next != "" || err != nil {
		t.Errorf("next %q, %v, page %s", next, err, diff)
	}
	for range 2 {
		if err := d.Delete(t.Context(), "/mesh/ours"); err != nil {
			t.Error(err)
		}
	}
}

func TestPageGoesOnFromItsToken(t *testing.T) {
	t.Parallel()
	d, srv := open(t, Config{Prefix: "/mesh"})
	for i := range 60 {
		srv.Put(fmt.Sprintf("/mesh/%02d", i), "x")
	}
	first, token, err := d.Page(t.Context(), "")
	if len(first) != 50 || token == "" || err != nil {
		t.Fatalf("%d entries, token %q, %v", len(first), token, err)
	}
	second, token, err := d.Page(t.Context(), token)
	if len(second) != 10 || token != "" || err != nil {
		t.Fatalf("%d entries, token %q, %v", len(second), token, err)
	}
}

// G9: throttling backs off.
func TestAThrottledPutIsTriedAgain(t *testing.T) {
	t.Parallel()
	d, srv := open(t, Config{})
	srv.FailNext("PutParameter", 1, ssmsim.Throttled())
	if v, err := d.Put(t.Context(), "/mesh/fn", []byte("{}")); v != 1 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
	if n := srv.Count("PutParameter"); n != 2 {
		t.Errorf("%d tries", n)
	}
}

func TestARefusedPutIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	d, srv := open(t, Config{})
	srv.FailAll("PutParameter", ssmsim.AccessDenied())
	if _, err := d.Put(t.Context(), "/mesh/fn", []byte("{}")); !errors.Is(err, paramstore.ErrDenied) || srv.Count("PutParameter") != 1 {
		t.Errorf("%d tries, %v", srv.Count("PutParameter"), err)
	}
}

func TestRetriesAreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		err := retry(t.Context(), func() error { tries++; return paramstore.ErrThrottled })
		if took := time.Since(start); tries != 6 || took < 8*time.Second || took > 17*time.Second {
			t.Errorf("%d tries in %v", tries, took)
		}
		if !errors.Is(err, paramstore.ErrThrottled) || !strings.Contains(err.Error(), "tried 6 times") {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start = time.Now()
		err = retry(ctx, func() error { return paramstore.ErrThrottled })
		if took := time.Since(start); took > 3*time.Second || !errors.Is(err, paramstore.ErrThrottled) {
			t.Errorf("%v after %v: the throttling is what a caller must hear of", err, took)
		}
	})
}
