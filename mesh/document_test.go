// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// canary is in every field of testDocument and in no text of the package. It is
// also base64, and so may be the body of a PEM block.
const canary = "zQXjKvzQXjKvzQXjKvzQXjKv"

func testPEM(kind string) string {
	body := must(base64.StdEncoding.DecodeString(canary + canary + canary))
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body}))
}

func testDocument() Document {
	cert := testPEM("CERTIFICATE")
	return Document{
		PrivateKeyPEM: testPEM(canary),
		CertPEM:       cert + cert,
		RootCertPEM:   cert + cert + cert,
		TrustDomain:   canary + "-td",
		Peers: []DocumentPeer{
			{Name: canary + "-old", TrustDomain: canary},
			{Name: canary + "-new", TrustDomain: canary, RemoteName: canary, Datacenter: canary, RootCertPEM: cert + cert},
		},
	}
}

// errorVocabulary is every text that an error on a document may have. What it
// matches holds no byte of a document, as all of it is written here.
var errorVocabulary = func() *regexp.Regexp {
	const (
		field = `(privateKeyPEM|certPEM|rootCertPEM|trustDomain|peers(\[\d+\](\.(name|trustDomain|remoteName|datacenter|rootCertPEM))?)?)`
		fault = field + `: (empty or missing, want a string|want UTF-8|want whole PEM blocks|want a JSON string|want a JSON object|want a JSON array|the same as peers\[\d+\]\.name, want one entry for each peer)`
		whole = `\d+ bytes that are not a JSON object: want one with privateKeyPEM, certPEM, rootCertPEM and trustDomain`
	)
	return regexp.MustCompile(`^mesh: invalid credential document: (` + whole + `|` + fault + `(; ` + fault + `)*)$`)
}()

func checkDocumentRefused(t testing.TB, err error, texts ...string) {
	t.Helper()
	if !errors.Is(err, ErrDocument) {
		t.Fatalf("error is %v, want one that wraps ErrDocument", err)
	}
	if !errorVocabulary.MatchString(err.Error()) {
		t.Errorf("error has a text of its own: %q", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not hold %q", err, text)
		}
	}
}

func TestDocumentIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	full := testDocument()
	plain := full
	plain.Peers = nil
	for _, d := range []Document{full, plain} {
		data := must(d.Encode())
		if got := must(ParseDocument(data)); !reflect.DeepEqual(got, d) {
			t.Errorf("%s is read back as another document", data)
		}
		if again := must(d.Encode()); !bytes.Equal(again, data) {
			t.Error("two encodings differ")
		}
	}
}

// The stored bytes are a contract with the predecessor, and a parameter has 4,096.
func TestDocumentIsWrittenInTheStoredForm(t *testing.T) {
	t.Parallel()
	block := "-----BEGIN X-----\nAAAA\n-----END X-----\n"
	const stored = `-----BEGIN X-----\nAAAA\n-----END X-----\n`
	d := Document{PrivateKeyPEM: block, CertPEM: block + block, RootCertPEM: "a<b>&c\n" + block, TrustDomain: "td"}

	want := `{"privateKeyPEM":"` + stored + `","certPEM":"` + stored + stored + `","rootCertPEM":"a<b>&c\n` + stored + `","trustDomain":"td"}`
	if got := string(must(d.Encode())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	d.Peers = []DocumentPeer{{Name: "a", TrustDomain: "b"}, {Name: "c", TrustDomain: "d", RemoteName: "e", Datacenter: "f", RootCertPEM: block}}
	want = want[:len(want)-1] + `,"peers":[{"name":"a","trustDomain":"b"},{"name":"c","trustDomain":"d","remoteName":"e","datacenter":"f","rootCertPEM":"` + stored + `"}]}`
	if got := string(must(d.Encode())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDocumentOfThePredecessorIsRead(t *testing.T) {
	t.Parallel()
	const block = `-----BEGIN X-----\nAAAA\n-----END X-----\n`
	const head = `{"privateKeyPEM":"` + block + `","certPEM":"` + block + `","rootCertPEM":"` + block + `","trustDomain":"td"`
	for _, tail := range []string{
		`}`, `,"peers":null}`, `,"peers":[]}`, `,"future":{"a":[1,2]},"more":null}`,
	} {
		d, err := ParseDocument([]byte(head + tail))
		if err != nil || d.TrustDomain != "td" || d.Peers != nil {
			t.Errorf("tail %q: %+v peers, %v", tail, d.Peers, err)
		}
	}
	d := must(ParseDocument([]byte(" \r\n\t" + head + `,"peers":[{"name":"east","trustDomain":"td2","datacenter":null,"future":1}]}` + "\n")))
	if want := []DocumentPeer{{Name: "east", TrustDomain: "td2"}}; !reflect.DeepEqual(d.Peers, want) {
		t.Errorf("peers are %v, want %v", d.Peers, want)
	}
}

func TestDocumentFindsAPeerByItsName(t *testing.T) {
	t.Parallel()
	d := testDocument()
	for _, want := range d.Peers {
		if got, ok := d.Peer(want.Name); !ok || got != want {
			t.Errorf("Peer(%q) = %v, %v", want.Name, got, ok)
		}
	}
	for _, name := range []string{"", "nobody", strings.ToUpper(d.Peers[0].Name)} {
		if got, ok := d.Peer(name); ok || got != (DocumentPeer{}) {
			t.Errorf("Peer(%q) = %v, %v", name, got, ok)
		}
	}
}

// Reading and writing keep the same rules, and all faults are named at once.
func TestDocumentOfAWrongShapeIsNeitherReadNorWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change func(*Document)
		texts  []string
	}{
		{func(d *Document) { *d = Document{} }, []string{"privateKeyPEM: empty", "certPEM: empty", "rootCertPEM: empty", "trustDomain: empty"}},
		{func(d *Document) { d.PrivateKeyPEM = "" }, []string{": privateKeyPEM: empty or missing"}},
		{func(d *Document) { d.PrivateKeyPEM = canary }, []string{": privateKeyPEM: want whole PEM blocks"}},
		{func(d *Document) { d.CertPEM = canary }, []string{": certPEM: want whole PEM blocks"}},
		{func(d *Document) { d.RootCertPEM = canary }, []string{": rootCertPEM: want whole PEM blocks"}},
		{func(d *Document) { d.TrustDomain = "" }, []string{": trustDomain: empty or missing"}},
		{func(d *Document) { d.Peers[1].Name = "" }, []string{": peers[1].name: empty or missing"}},
		{func(d *Document) { d.Peers[1].Name = d.Peers[0].Name }, []string{": peers[1].name: the same as peers[0].name"}},
		{func(d *Document) { d.Peers[0].TrustDomain = "" }, []string{": peers[0].trustDomain: empty or missing"}},
		{func(d *Document) { d.Peers[0].RootCertPEM = canary }, []string{": peers[0].rootCertPEM: want whole PEM blocks"}},
		{func(d *Document) { d.TrustDomain, d.Peers[1].Name = "", "" }, []string{"trustDomain: empty", "; peers[1].name: empty"}},
	} {
		d := testDocument()
		c.change(&d)
		data, err := d.Encode()
		if data != nil {
			t.Errorf("data beside the error %v", err)
		}
		checkDocumentRefused(t, err, c.texts...)

		stored := storedDocument{PrivateKeyPEM: d.PrivateKeyPEM, CertPEM: d.CertPEM, RootCertPEM: d.RootCertPEM, TrustDomain: d.TrustDomain}
		for _, p := range d.Peers {
			stored.Peers = append(stored.Peers, storedPeer(p))
		}
		got, parseErr := ParseDocument(must(json.Marshal(stored)))
		checkDocumentRefused(t, parseErr, c.texts...)
		if parseErr.Error() != err.Error() || !reflect.DeepEqual(got, Document{}) {
			t.Errorf("Encode says %v, ParseDocument says %v", err, parseErr)
		}
	}
}

// encoding/json would replace the bytes, and the document would be another one.
func TestDocumentThatIsNotUTF8IsNotWritten(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Document){
		"privateKeyPEM":        func(d *Document) { d.PrivateKeyPEM = "\xff\n" + d.PrivateKeyPEM },
		"certPEM":              func(d *Document) { d.CertPEM = "\xff\n" + d.CertPEM },
		"rootCertPEM":          func(d *Document) { d.RootCertPEM += "\xff" },
		"trustDomain":          func(d *Document) { d.TrustDomain += "\xff" },
		"peers[0].name":        func(d *Document) { d.Peers[0].Name += "\xff" },
		"peers[0].trustDomain": func(d *Document) { d.Peers[0].TrustDomain += "\xff" },
		"peers[1].remoteName":  func(d *Document) { d.Peers[1].RemoteName += "\xff" },
		"peers[1].datacenter":  func(d *Document) { d.Peers[1].Datacenter += "\xff" },
		"peers[1].rootCertPEM": func(d *Document) { d.Peers[1].RootCertPEM += "\xff" },
	} {
		d := testDocument()
		change(&d)
		_, err := d.Encode()
		checkDocumentRefused(t, err, ": "+field+": want UTF-8")
	}
}

// R2: a root whose block is cut short would be skipped by every PEM reader.
func TestDocumentWithAnyPEMBlockCutShortIsRefused(t *testing.T) {
	t.Parallel()
	d := testDocument()
	one := testPEM("CERTIFICATE")
	for end := len(one) + 1; end < len(one)+len(one)-1; end++ {
		d.RootCertPEM = (one + one)[:end]
		_, err := d.Encode()
		if strings.Contains(d.RootCertPEM[len(one):], "-----BEGIN ") {
			checkDocumentRefused(t, err, ": rootCertPEM: want whole PEM blocks")
		}
	}
	d.RootCertPEM = one[:len(one)/2] + one
	_, err := d.Encode()
	checkDocumentRefused(t, err, ": rootCertPEM: want whole PEM blocks")

	// Text beside the blocks is legal.
	d.RootCertPEM = "root of the west\n" + one + "\nroot of the east\n" + one + "\n"
	if got := must(ParseDocument(must(d.Encode()))); got.RootCertPEM != d.RootCertPEM {
		t.Error("text beside PEM blocks was changed")
	}
}

// R18: no error holds any part of a document, wherever the document is broken.
func TestDocumentErrorsHoldNoContent(t *testing.T) {
	t.Parallel()
	data := must(testDocument().Encode())
	for end := range data {
		_, err := ParseDocument(data[:end])
		checkDocumentRefused(t, err)
	}
	for i := range data {
		for _, b := range []byte("\"\\{[,:x\x00\xff") {
			changed := bytes.Clone(data)
			changed[i] = b
			if _, err := ParseDocument(changed); err != nil {
				checkDocumentRefused(t, err)
			}
		}
	}
	for _, in := range []string{
		"", " ", "null", "true", "1", `"` + canary + `"`, `["` + canary + `"]`, canary, "\xef\xbb\xbf{}",
		`{"` + canary + `"}`, `{"a":` + canary + `}`, `{} ` + canary, `{}{}`, "{",
	} {
		_, err := ParseDocument([]byte(in))
		checkDocumentRefused(t, err)
	}
}

func TestDocumentErrorNamesTheFieldOfAWrongType(t *testing.T) {
	t.Parallel()
	valid := must(testDocument().Encode())
	for _, wrong := range []string{`12345678901`, `true`, `["` + canary + `"]`, `{"` + canary + `":"` + canary + `"}`} {
		for _, field := range []string{"privateKeyPEM", "certPEM", "rootCertPEM", "trustDomain"} {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(valid, &fields); err != nil {
				t.Fatal(err)
			}
			fields[field] = json.RawMessage(wrong)
			_, err := ParseDocument(must(json.Marshal(fields)))
			checkDocumentRefused(t, err, ": "+field+": want a JSON string")
		}
		for _, field := range []string{"name", "trustDomain", "remoteName", "datacenter", "rootCertPEM"} {
			_, err := ParseDocument([]byte(`{"peers":[{},{"` + field + `":` + wrong + `}]}`))
			checkDocumentRefused(t, err, "peers[1]."+field+": want a JSON string")
		}
		if wrong[0] != '[' {
			_, err := ParseDocument([]byte(`{"peers":` + wrong + `}`))
			checkDocumentRefused(t, err, "peers: want a JSON array")
		}
		if wrong[0] != '{' {
			_, err := ParseDocument([]byte(`{"peers":[` + wrong + `]}`))
			checkDocumentRefused(t, err, "peers[0]: want a JSON object")
		}
	}
	_, err := ParseDocument([]byte(`{"peers":[null]}`))
	checkDocumentRefused(t, err, "peers[0]: want a JSON object")
}

// holders are the ways in which a document may stand where it is printed.
func holders() map[string]any {
	d := testDocument()
	type embedding struct {
		Document
		Other int
	}
	type embeddingPointer struct {
		*Document
		Other int
	}
	type field struct{ Document Document }
	type hidden struct{ document *Document }
	return map[string]any{
		"value":               d,
		"pointer":             &d,
		"embedded":            embedding{Document: d},
		"pointer to embedded": &embedding{Document: d},
		"embedded pointer":    embeddingPointer{Document: &d},
		"field":               field{d},
		"pointer to field":    &field{d},
		"hidden pointer":      hidden{&d},
		"slice":               []Document{d},
		"array":               [1]Document{d},
		"map":                 map[string]Document{"a": d},
		"key":                 map[any]int{&d: 1},
		"interface":           []any{d, &d},
	}
}

func checkNoCanary(t testing.TB, what, out string) {
	t.Helper()
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary)), "BEGIN"} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
			t.Errorf("%s shows the document: %s", what, out)
		}
	}
}

// R18, each verb with each flag, but for those of which the doc of Document speaks:
// fmt shows a value as it is behind %p and %w, and behind a verb that does not fit a
// pointer in an unexported field. None of them passes go vet.
func TestDocumentIsNotPrinted(t *testing.T) {
	t.Parallel()
	for name, v := range holders() {
		verbs := "vTtbcdoOqxXUeEfFgGsz"
		if name == "hidden pointer" {
			verbs = "vTdoxX"
		}
		for _, verb := range verbs {
			for _, flag := range []string{"", "+", "#", "-", " ", "0", "999", ".3"} {
				format := "%" + flag + string(verb)
				checkNoCanary(t, name+" with "+format, fmt.Sprintf(format, v))
			}
		}
		checkNoCanary(t, name+" with Sprint", fmt.Sprint(v))
		checkNoCanary(t, name+" in an error", fmt.Errorf("%w: %v", ErrDocument, v).Error())
	}
	d := testDocument()
	for _, got := range []string{d.String(), d.GoString(), (&d).String(), fmt.Sprint(d), fmt.Sprintf("%#v", &d), d.LogValue().String()} {
		if got != "[REDACTED mesh.Document]" {
			t.Errorf("document prints as %q", got)
		}
	}
	// A nil pointer prints, too.
	checkNoCanary(t, "nil", fmt.Sprintf("%+v", (*Document)(nil)))
}

func TestDocumentIsNotLogged(t *testing.T) {
	t.Parallel()
	for name, v := range holders() {
		var out bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			logger := slog.New(handler)
			logger.Info("x", "document", v)
			logger.With("document", v).WithGroup("g").Info("x", slog.Group("h", "document", v))
		}
		checkNoCanary(t, name+" in a log", out.String())
	}
}

func TestDocumentIsNotMarshalled(t *testing.T) {
	t.Parallel()
	for name, v := range holders() {
		data, err := json.Marshal(v)
		checkNoCanary(t, name+" as JSON", string(data))
		if err == nil {
			if name != "hidden pointer" {
				t.Errorf("%s was marshalled as %s", name, data)
			}
			continue
		}
		checkNoCanary(t, name+" in an error", err.Error())
		if name != "key" && !errors.Is(err, ErrDocument) {
			t.Errorf("%s: error %v does not wrap ErrDocument", name, err)
		}
	}
}

// What is accepted is written, and read back as the same document; what is refused
// is refused in words that are known before.
func FuzzParseDocument(f *testing.F) {
	f.Add(must(testDocument().Encode()))
	const block = `"-----BEGIN X-----\nAAAA\n-----END X-----\n"`
	f.Add([]byte(`{"privateKeyPEM":` + block + `,"certPEM":` + block + `,"rootCertPEM":` + block + `,"trustDomain":"td","peers":null}`))
	f.Add([]byte(`{"privateKeyPEM":` + block + `,"certPEM":` + block + `,"rootCertPEM":` + block + `,"trustDomain":"<&>","peers":[{"name":"a","trustDomain":"b","rootCertPEM":` + block + `}],"x":1}`))
	f.Add([]byte(`{"peers":[{"name":1},null,{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDocument(data)
		if err != nil {
			checkDocumentRefused(t, err)
			if !reflect.DeepEqual(d, Document{}) {
				t.Error("a document stands beside the error")
			}
			return
		}
		encoded, err := d.Encode()
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := ParseDocument(encoded)
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("%q is read back as another document: %v", encoded, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
			t.Errorf("second encoding differs: %v", err)
		}
	})
}
