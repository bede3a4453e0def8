// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Document is the credential document of one function: what it needs to call into
// the mesh under its own name, as it is stored in a SecureString. The zero value is
// empty and cannot be encoded.
//
// It holds a private key, and so prints, logs and formats as "[REDACTED
// mesh.Document]" and refuses json.Marshal; Encode is the only way to its bytes.
// Two things go around that, as fmt then asks no method. One is a verb that go vet
// refuses, such as %p for a struct or %w for what is no error: fmt reports it by
// showing the value. The other is a Document in an unexported field of what is
// printed. Keep a *Document there, which %v shows as an address.
type Document struct {
	PrivateKeyPEM string
	CertPEM       string // the leaf first, then its intermediates
	RootCertPEM   string // all current roots, concatenated
	TrustDomain   string
	Peers         []DocumentPeer // nil when there are none
}

// DocumentPeer is what a function must know of a peer to call the services that it
// exports. A peer written by the predecessor has Name and TrustDomain only, which is
// not enough to call it.
type DocumentPeer struct {
	Name        string // our name for the peer
	TrustDomain string // the peer's
	RemoteName  string // the peer's name for us; may be ""
	Datacenter  string // the peer's; may be ""
	RootCertPEM string // all current roots of the peer, concatenated; may be ""
}

// The names of the stored fields are a contract with the predecessor, both ways.
// Raw fields let ParseDocument decode one at a time: an error of encoding/json may
// quote what it read, so none is passed on and the field's name is known without it.
type rawDocument struct {
	PrivateKeyPEM json.RawMessage `json:"privateKeyPEM"`
	CertPEM       json.RawMessage `json:"certPEM"`
	RootCertPEM   json.RawMessage `json:"rootCertPEM"`
	TrustDomain   json.RawMessage `json:"trustDomain"`
	Peers         json.RawMessage `json:"peers"`
}

type rawPeer struct {
	Name        json.RawMessage `json:"name"`
	TrustDomain json.RawMessage `json:"trustDomain"`
	RemoteName  json.RawMessage `json:"remoteName"`
	Datacenter  json.RawMessage `json:"datacenter"`
	RootCertPEM json.RawMessage `json:"rootCertPEM"`
}

type storedDocument struct {
	PrivateKeyPEM string       `json:"privateKeyPEM"`
	CertPEM       string       `json:"certPEM"`
	RootCertPEM   string       `json:"rootCertPEM"`
	TrustDomain   string       `json:"trustDomain"`
	Peers         []storedPeer `json:"peers,omitempty"`
}

type storedPeer struct {
	Name        string `json:"name"`
	TrustDomain string `json:"trustDomain"`
	RemoteName  string `json:"remoteName,omitempty"`
	Datacenter  string `json:"datacenter,omitempty"`
	RootCertPEM string `json:"rootCertPEM,omitempty"`
}

// ParseDocument reads a stored document. It checks the shape only: a JSON object
// with privateKeyPEM, certPEM, rootCertPEM and trustDomain, for each peer a name
// that no other peer has and a trust domain, and whole PEM blocks where PEM belongs.
// Whether the key fits the certificate, and whether that one is still good, is not
// asked. Unknown fields are ignored; null is the same as a missing field.
//
// The error wraps ErrDocument and names the fields at fault; it never holds any part
// of data.
func ParseDocument(data []byte) (Document, error) {
	d, err := parseDocument(data)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return d, nil
}

func parseDocument(data []byte) (Document, error) {
	var raw rawDocument
	if !decodeObject(data, &raw) {
		return Document{}, fmt.Errorf("%d bytes that are not a JSON object: want one with privateKeyPEM, certPEM, rootCertPEM and trustDomain", len(data))
	}
	var (
		d Document
		f faults
	)
	f.decode(&d.PrivateKeyPEM, raw.PrivateKeyPEM, "privateKeyPEM")
	f.decode(&d.CertPEM, raw.CertPEM, "certPEM")
	f.decode(&d.RootCertPEM, raw.RootCertPEM, "rootCertPEM")
	f.decode(&d.TrustDomain, raw.TrustDomain, "trustDomain")

	var peers []json.RawMessage
	if len(raw.Peers) > 0 && json.Unmarshal(raw.Peers, &peers) != nil {
		f.add("peers: want a JSON array")
	}
	for i, data := range peers {
		var (
			raw rawPeer
			p   DocumentPeer
			at  = peerField(i)
		)
		if !decodeObject(data, &raw) {
			f.add(at + ": want a JSON object")
		}
		f.decode(&p.Name, raw.Name, at+".name")
		f.decode(&p.TrustDomain, raw.TrustDomain, at+".trustDomain")
		f.decode(&p.RemoteName, raw.RemoteName, at+".remoteName")
		f.decode(&p.Datacenter, raw.Datacenter, at+".datacenter")
		f.decode(&p.RootCertPEM, raw.RootCertPEM, at+".rootCertPEM")
		d.Peers = append(d.Peers, p)
	}
	return d, f.err()
}

// decodeObject decodes a JSON object and refuses null, which json.Unmarshal takes
// for an empty one.
func decodeObject(data []byte, into any) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && json.Unmarshal(data, into) == nil
}

func peerField(i int) string { return "peers[" + strconv.Itoa(i) + "]" }

// check holds what is true of a document that ParseDocument returned or that Encode
// writes: each takes what the other gives.
func (d Document) check() error {
	var f faults
	f.checkPEM("privateKeyPEM", d.PrivateKeyPEM)
	f.checkPEM("certPEM", d.CertPEM)
	f.checkPEM("rootCertPEM", d.RootCertPEM)
	f.checkText("trustDomain", d.TrustDomain)

	first := make(map[string]int, len(d.Peers))
	for i, p := range d.Peers {
		at := peerField(i)
		f.checkText(at+".name", p.Name)
		if j, taken := first[p.Name]; taken {
			f.add(at + ".name: the same as " + peerField(j) + ".name, want one entry for each peer")
		} else {
			first[p.Name] = i
		}
		f.checkText(at+".trustDomain", p.TrustDomain)
		if p.RemoteName != "" {
			f.checkText(at+".remoteName", p.RemoteName)
		}
		if p.Datacenter != "" {
			f.checkText(at+".datacenter", p.Datacenter)
		}
		if p.RootCertPEM != "" {
			f.checkPEM(at+".rootCertPEM", p.RootCertPEM)
		}
	}
	return f.err()
}

// faults says what is wrong with which fields, and never holds their content.
type faults []string

func (f *faults) add(fault string) { *f = append(*f, fault) }

// err is all faults in one line, or nil.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return errors.New(strings.Join(f, "; "))
}

// decode decodes a JSON string; a missing one and null leave into as it is.
func (f *faults) decode(into *string, data json.RawMessage, field string) {
	if len(data) > 0 && json.Unmarshal(data, into) != nil {
		f.add(field + ": want a JSON string")
	}
}

func (f *faults) checkText(field, value string) {
	switch {
	case value == "":
		f.add(field + ": empty or missing, want a string")
	case !utf8.ValidString(value): // encoding/json would replace it
		f.add(field + ": want UTF-8")
	}
}

func (f *faults) checkPEM(field, value string) {
	if value != "" && !isPEM(value) {
		f.add(field + ": want whole PEM blocks")
		return
	}
	f.checkText(field, value)
}

// isPEM says whether s has PEM blocks and each that begins is whole. PEM readers
// skip a block that is cut short: a root would be missing without a word. Text
// between blocks is allowed, as PEM allows it.
func isPEM(s string) bool {
	blocks := 0
	for rest := []byte(s); ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return blocks > 0 && blocks == strings.Count(s, "-----BEGIN ")
		}
	}
}

// Encode returns the stored form: the same bytes for equal documents, with nothing
// escaped that JSON does not ask for, as the size of a parameter is limited. It
// refuses a document that ParseDocument would refuse, with the same error. The
// caller owns the bytes; they hold the private key.
func (d Document) Encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	stored := storedDocument{
		PrivateKeyPEM: d.PrivateKeyPEM,
		CertPEM:       d.CertPEM,
		RootCertPEM:   d.RootCertPEM,
		TrustDomain:   d.TrustDomain,
	}
	for _, p := range d.Peers {
		stored.Peers = append(stored.Peers, storedPeer(p))
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(stored); err != nil {
		// Strings always encode; the text of err could quote them.
		return nil, fmt.Errorf("%w: cannot be encoded", ErrDocument)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Peer returns the peer that we call name, or false.
func (d Document) Peer(name string) (DocumentPeer, bool) {
	for _, p := range d.Peers {
		if p.Name == name {
			return p, true
		}
	}
	return DocumentPeer{}, false
}

const redactedDocument = "[REDACTED mesh.Document]"

var (
	_ slog.LogValuer = Document{}
	_ fmt.Formatter  = Document{}
	_ fmt.Stringer   = Document{}
	_ fmt.GoStringer = Document{}
	_ json.Marshaler = Document{}
)

// LogValue keeps the document out of logs.
func (d Document) LogValue() slog.Value { return slog.StringValue(redactedDocument) }

// Format prints the same for every verb.
func (d Document) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedDocument) }

// String returns "[REDACTED mesh.Document]".
func (d Document) String() string { return redactedDocument }

// GoString returns what String does.
func (d Document) GoString() string { return redactedDocument }

// MarshalJSON refuses, with an error that wraps ErrDocument: a document that is
// written by accident must neither leak nor be stored with its key struck out.
func (d Document) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("%w: json.Marshal is refused: want Encode", ErrDocument)
}
