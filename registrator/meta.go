// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// What is kept in a service's meta, so that a quiet run reads nothing but Consul's listings (G8). Consul allows 64 pairs, letters,
// digits, "-" and "_" in a key, 512 bytes in a value, and keeps keys that begin with "consul-" to itself (agent/structs,
// ValidateServiceMetadata). Nothing here is secret.
const (
	metaOwner     = "lambda-owner"          // Owner.String
	metaFunction  = "lambda-function"       // record.arn
	metaNotBefore = "lambda-leaf-from"      // of the stored leaf, RFC 3339
	metaNotAfter  = "lambda-leaf-until"     // of the stored leaf, RFC 3339
	metaRoots     = "lambda-roots"          // Roots.ID of the stored roots
	metaInputs    = "lambda-inputs"         // digest of what else the document was made of
	metaVersion   = "lambda-document"       // the store's version of it
	metaWritten   = "lambda-document-since" // when it was written, RFC 3339
)

// stored is what a service's meta says of its document. The zero value: there is none.
type stored struct {
	notBefore, notAfter time.Time
	roots, inputs       string
	version             int64
	written             time.Time
}

// readStored reads the meta of an instance. What was lost or spoiled makes the whole worth nothing: the document is made anew.
func readStored(meta map[string]string) stored {
	var (
		s    stored
		errs [4]error
	)
	s.notBefore, errs[0] = time.Parse(time.RFC3339, meta[metaNotBefore])
	s.notAfter, errs[1] = time.Parse(time.RFC3339, meta[metaNotAfter])
	s.written, errs[2] = time.Parse(time.RFC3339, meta[metaWritten])
	s.version, errs[3] = strconv.ParseInt(meta[metaVersion], 10, 64)
	s.roots, s.inputs = meta[metaRoots], meta[metaInputs]
	if errs != [4]error{} || s.version <= 0 || !s.notBefore.Before(s.notAfter) {
		return stored{}
	}
	return s
}

// meta returns the whole meta of an instance for r with that document.
func (r record) meta(s stored) map[string]string {
	return s.into(map[string]string{metaOwner: r.function.Owner().String(), metaFunction: r.arn()})
}

// into sets what is said of the document in meta, and returns it.
func (s stored) into(meta map[string]string) map[string]string {
	if s.version == 0 {
		return meta
	}
	meta[metaNotBefore] = s.notBefore.UTC().Format(time.RFC3339)
	meta[metaNotAfter] = s.notAfter.UTC().Format(time.RFC3339)
	meta[metaWritten] = s.written.UTC().Format(time.RFC3339)
	meta[metaVersion] = strconv.FormatInt(s.version, 10)
	meta[metaRoots], meta[metaInputs] = s.roots, s.inputs
	return meta
}

// digest is short enough for a value of meta and long enough that nothing collides by chance.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// metaID fits any ID into a value of meta.
func (r Roots) metaID() string {
	if len(r.ID) > 128 {
		return digest([]byte(r.ID))
	}
	return r.ID
}
