// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

func TestPutWritesASecureStringAndReturnsItsVersion(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	s := open(t, srv)
	for i, want := range []string{"first", "second"} {
		v, err := s.Writer(WriterConfig{KeyID: "alias/mesh"}).Put(t.Context(), "/mesh/fn", []byte(want))
		if err != nil || v != int64(i+1) {
			t.Errorf("put: version %d, %v", v, err)
		}
		p, _ := srv.Get("/mesh/fn")
		if p.Value != want || p.Type != "SecureString" || p.KeyID != "alias/mesh" || p.Tier != "Standard" {
			t.Errorf("stored as %s %s under %s", p.Tier, p.Type, p.KeyID)
		}
	}
	if _, err := s.Writer(WriterConfig{}).Put(t.Context(), "/mesh/other", make8(100)); err != nil {
		t.Error(err)
	}
	if p, _ := srv.Get("/mesh/other"); p.KeyID != "alias/aws/ssm" {
		t.Errorf("without a key it is under %q, want the account's own", p.KeyID)
	}
}

// DESIGN 3.2: a document grows past 4,096 bytes in a rotation and shrinks again.
func TestADocumentThatGrewAndShrankIsStillWritable(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	s := open(t, srv)
	w := s.Writer(WriterConfig{})
	for _, size := range []int{4096, 4097, 8192, 100} {
		if _, err := w.Put(t.Context(), "/mesh/fn", make8(size)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if p, _ := srv.Get("/mesh/fn"); p.Tier != "Advanced" || p.Version != 4 {
		t.Errorf("ended as %s, version %d", p.Tier, p.Version)
	}
	_, err := s.Writer(WriterConfig{Tier: Standard}).Put(t.Context(), "/mesh/fn", make8(100))
	checkError(t, err, kindTier, ErrTier, "downgrade", string(IntelligentTiering))
	_, err = s.Writer(WriterConfig{Tier: Standard}).Put(t.Context(), "/mesh/new", make8(4097))
	checkError(t, err, kindTier, ErrTier, "4096")
}

func make8(n int) []byte { return []byte(strings.Repeat("d", n)) }

func TestAValueAboveTheLimitIsRefusedWithoutACall(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	_, err := open(t, srv).Writer(WriterConfig{}).Put(t.Context(), "/mesh/fn", make8(8193))
	checkError(t, err, kindTooLarge, ErrTooLarge, "/mesh/fn", "8193", "8192")
	if n := srv.Count(""); n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestPutNamesThePermissionsItLacks(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	w := open(t, srv).Writer(WriterConfig{})
	srv.FailNext("", 1, ssmsim.KMSDenied())
	_, err := w.Put(t.Context(), "/mesh/fn", make8(100))
	checkError(t, err, kindKMSDenied, ErrDenied, "kms:Encrypt", "kms:GenerateDataKey")
	srv.FailNext("", 1, ssmsim.AccessDenied())
	_, err = w.Put(t.Context(), "/mesh/fn", make8(100))
	checkError(t, err, kindAccessDenied, ErrDenied, "ssm:PutParameter on arn:aws:ssm:us-east-1:*:parameter/mesh/fn")
	srv.SetWriteLimit(0.001, 1)
	_, _ = w.Put(t.Context(), "/mesh/fn", make8(100))
	_, err = w.Put(t.Context(), "/mesh/fn", make8(100))
	checkError(t, err, kindThrottled, ErrThrottled)
}

func TestDeleteIsIdempotent(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/mesh/fn", "x")
	w := open(t, srv).Writer(WriterConfig{})
	for range 2 {
		if err := w.Delete(t.Context(), "/mesh/fn"); err != nil {
			t.Error(err)
		}
	}
	if _, there := srv.Get("/mesh/fn"); there {
		t.Error("not deleted")
	}
	srv.FailNext("", 1, ssmsim.AccessDenied())
	checkError(t, w.Delete(t.Context(), "/mesh/fn"), kindAccessDenied, ErrDenied, "ssm:DeleteParameter on arn:")
}

func TestParseTierTakesTheThreeTiersInAnyCase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Tier{
		"": IntelligentTiering, "Standard": Standard, "standard": Standard, "ADVANCED": Advanced, "intelligent-tiering": IntelligentTiering,
	} {
		if got, err := ParseTier(in); err != nil || got != want {
			t.Errorf("ParseTier(%q) = %q, %v", in, got, err)
		}
	}
	if _, err := ParseTier("premium"); err == nil || !strings.Contains(err.Error(), `"premium"`) {
		t.Errorf("ParseTier(premium): %v", err)
	}
}

func TestDescribeGoesRoundThePages(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	var want []string
	for i := range 120 {
		name := fmt.Sprintf("/mesh/default/default/fn-%03d", i)
		want = append(want, name)
		srv.Put(name, "x")
	}
	srv.Put(want[7], "y")
	srv.Put("/meshes/not-ours", "x")
	s := open(t, srv)
	var got []string
	var sizes []int
	for token := ""; ; {
		page, err := s.Describe(t.Context(), "/mesh", token)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Entries))
		for _, e := range page.Entries {
			got = append(got, e.Name)
			if (e.Version == 2) != (e.Name == want[7]) {
				t.Errorf("%s has version %d", e.Name, e.Version)
			}
		}
		if token = page.Next; token == "" {
			break
		}
	}
	if !slices.Equal(got, want) || !slices.Equal(sizes, []int{50, 50, 20}) {
		t.Errorf("pages of %v entries", sizes)
	}
}

// G5: only what a registrator wrote may ever be taken for an orphan.
func TestDescribeTellsWhatAWriterStoredFromWhatOthersDid(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	s := open(t, srv)
	w := s.Writer(WriterConfig{})
	srv.Put("/mesh/adopted", "somebody else's")
	for _, name := range []string{"/mesh/adopted", "/mesh/ours", "/mesh/overwritten"} {
		if _, err := w.Put(t.Context(), name, make8(10)); err != nil {
			t.Fatal(err)
		}
	}
	srv.Put("/mesh/overwritten", "by hand")
	srv.Put("/mesh/theirs", "x")
	page, err := s.Describe(t.Context(), "/mesh", "")
	want := []Entry{{"/mesh/adopted", 2, true}, {"/mesh/ours", 1, true}, {"/mesh/overwritten", 2, false}, {"/mesh/theirs", 1, false}}
	if err != nil || !slices.Equal(page.Entries, want) {
		t.Errorf("got %+v, %v", page.Entries, err)
	}
}

func TestDescribeTakesAPrefixWithoutASlash(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("mesh-a", "x")
	srv.Put("other", "x")
	page, err := open(t, srv).Describe(t.Context(), "mesh", "")
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Name != "mesh-a" {
		t.Errorf("got %+v, %v", page, err)
	}
}

func TestDescribeBeginsAgainWhenItsTokenIsForgotten(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/mesh/a", "x")
	page, err := open(t, srv).Describe(t.Context(), "/mesh", "a token of last week")
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("got %+v, %v", page, err)
	}
	srv.FailAll("", ssmsim.AccessDenied())
	_, err = open(t, srv).Describe(t.Context(), "/mesh", "")
	checkError(t, err, kindAccessDenied, ErrDenied, "ssm:DescribeParameters on arn:aws:ssm:us-east-1:*:*")
}
