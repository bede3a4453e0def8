// SPDX-License-Identifier: MPL-2.0

package documents

import (
	"errors"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
)

// G2: a page that cannot be had is an error, not a store without documents.
func TestAPageThatIsRefusedIsAnError(t *testing.T) {
	t.Parallel()
	d, srv := open(t, Config{Prefix: "/mesh"})
	srv.Put("/mesh/fn", "x")
	srv.FailAll("DescribeParameters", ssmsim.AccessDenied())
	if page, _, err := d.Page(t.Context(), ""); !errors.Is(err, paramstore.ErrDenied) || len(page) != 0 {
		t.Errorf("%d documents, %v", len(page), err)
	}
}
