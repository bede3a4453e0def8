// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// explain tells why a dial failed: what was seen, and what to do.
func (n names) explain(err error) (detail, remedy string) {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		notTLS    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, tlsstate.ErrPeerIncomplete):
		return err.Error(), "is the peering established? Let the registrator, not its predecessor, write the document anew"
	case errors.Is(err, tlsstate.ErrIdentity):
		return err.Error(), "the gateway leads this name to another service: is it redirected, split or failed over in Consul (service-resolver)? " +
			"Name the service that answers, or take that out. Is the upstream's namespace, partition and datacenter the right one?"
	case errors.As(err, &authority):
		return "who answers is not vouched for by a root of the document: " + authority.Error(),
			"if the CA was rotated, let the registrator write the document anew; if not, the gateway is of another cluster"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the destination's certificate is not valid now: " + invalid.Error(), "is its sidecar connected to Consul, and is this clock right?"
	case errors.As(err, &notTLS):
		return "who answers does not speak TLS", "is this the mesh gateway's port? A port of its metrics, or a proxy in between, would answer so"
	case isAlert(err):
		return fmt.Sprintf("the handshake was refused: %v", alertOf(err)), refusedRemedy
	case errors.Is(err, tlsstate.ErrNoGateway):
		return err.Error(), "the gateway could be reached a moment ago: is it being restarted?"
	case errors.Is(err, context.DeadlineExceeded):
		return "the gateway took the connection, and the handshake did not end in time: asked for " + n.sni, hungRemedy
	case isClosed(err):
		return "the gateway closed the connection in the handshake: it has no route for " + n.sni + ", or nobody behind it",
			fmt.Sprintf("the gateway has no route for this SNI: is the service %s, and is its sidecar up?", n.place())
	}
	return err.Error(), ""
}

const (
	hungRemedy = "the gateway does not reach the destination: is its sidecar's address reachable from the gateway?"
	// silentRemedy is for a gateway through which no handshake ends at all.
	silentRemedy = "no handshake through this gateway ends: is this the port on which it listens for the mesh (its Kubernetes service's, " +
		"by default 443 or 8443)? A port that is not a mesh gateway's may be so silent. If it is one, it does not reach the " +
		"destinations: are the addresses of their sidecars reachable from it?"
)

const refusedRemedy = "the destination's sidecar does not trust our leaf: is it of the same cluster, and has it the current roots?"

// isClosed reports an end of the connection without a word from TLS.
func isClosed(err error) bool {
	return errors.Is(err, tlsstate.ErrTruncated) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isAlert reports a fatal alert of the peer, which crypto/tls marks by the operation only.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func alertOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
