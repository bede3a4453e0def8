// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"crypto/tls"
	"sync/atomic"
)

// session remembers the latest TLS session of one upstream through one gateway, in one snapshot. Because it lives and
// dies with them, a session is never resumed under another identity, other roots or through another gateway (R2): the
// key that crypto/tls asks with need not be looked at.
type session struct {
	latest atomic.Pointer[tls.ClientSessionState]
}

var _ tls.ClientSessionCache = (*session)(nil)

// Get returns the session to resume. A ticket may be offered more than once: what is saved is a round of signatures, not
// a round trip, and a server that refuses it falls back to a full handshake.
func (s *session) Get(string) (*tls.ClientSessionState, bool) {
	cs := s.latest.Load()
	return cs, cs != nil
}

// Put keeps the newest session; nil, with which crypto/tls withdraws a bad one, forgets it.
func (s *session) Put(_ string, cs *tls.ClientSessionState) { s.latest.Store(cs) }
