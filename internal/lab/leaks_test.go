// SPDX-License-Identifier: MPL-2.0

package lab_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// R18: whatever a process of a world prints of its secrets, and however, fails the test at the latest when the world is closed.
func TestAWorldNoticesSecretsThatWerePrinted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	doc, _ := w.Store.Get(w.ParameterPath())
	key := document(t, w).PrivateKeyPEM
	for how, text := range map[string]string{
		"a document":        doc.Value,
		"a line of a key":   strings.Split(key, "\n")[1],
		"a last line":       "key: " + strings.Split(key, "\n")[3],
		"a key, by %q":      fmt.Sprintf("%q", key),
		"a key, by %v":      fmt.Sprint([]byte(key)),
		"a key, by %x":      fmt.Sprintf("%x", key),
		"a key, by %X":      fmt.Sprintf("%X", key),
		"a key, as []byte":  base64.StdEncoding.EncodeToString([]byte(key)),
		"the same, later":   base64.StdEncoding.EncodeToString([]byte("x" + key)),
		"the same, later 2": base64.StdEncoding.EncodeToString([]byte("xy" + key)),
		"a session token":   `{"token":"` + w.Options().SessionToken + `"}`,
		"a secret key":      w.Options().SecretAccessKey,
	} {
		w.Options().OnLog(lambdasim.Line{Source: "x", Text: "nothing"})
		ok(t, w.ForgetLeaks())
		w.Options().OnLog(lambdasim.Line{Source: "x", Stderr: true, Text: text})
		err := w.ForgetLeaks()
		if !errors.Is(err, lab.ErrLeak) {
			t.Errorf("%s: error %v", how, err)
		} else if strings.Contains(err.Error(), text[:20]) {
			t.Errorf("%s: the error quotes what it found", how)
		}
	}
}
