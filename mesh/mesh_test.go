// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const testTrustDomain = "ba471007-78d1-3261-2e02-24258f2cb341.consul"

// must takes the results of a constructor that has to accept.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("refused: %v", err))
	}
	return v
}

// checkRefused demands the zero value and an error of one line that wraps sentinel,
// says what is wanted and holds each of the texts.
func checkRefused[T comparable](t testing.TB, got T, err, sentinel error, texts ...string) {
	t.Helper()
	var zero T
	if err == nil {
		t.Fatalf("accepted as %v, want an error with %q", got, texts)
	}
	if got != zero {
		t.Errorf("value beside the error is %v, want the zero value", got)
	}
	if !errors.Is(err, sentinel) {
		t.Errorf("error %q does not wrap %q", err, sentinel)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("error has more than one line: %q", err)
	}
	for _, text := range append(texts, "want") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not hold %q", err, text)
		}
	}
}

// isNameByte is the alphabet, written apart from the code under test.
func isNameByte(b byte) bool {
	return strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", b) >= 0
}

// checkHostName demands what RFC 1035 allows in a host name's text, and that the
// name is none of the forms that crypto/tls would alter.
func checkHostName(t testing.TB, name string) {
	t.Helper()
	if len(name) == 0 || len(name) > 253 {
		t.Errorf("server name %q has %d bytes", name, len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 {
			t.Errorf("server name %q has a label of %d bytes", name, len(label))
		}
		for i := range len(label) {
			if !isNameByte(label[i]) {
				t.Errorf("server name %q holds byte %#x", name, label[i])
			}
		}
	}
}
