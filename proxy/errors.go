// SPDX-License-Identifier: MPL-2.0

package proxy

import "errors"

// ErrServerClosed is what Serve returns after Shutdown, and Listen then too.
var ErrServerClosed = errors.New("proxy: server closed")

// What the log says of connections that were ended here, where no other error does.
var (
	// errNoAnswer: the upstream ended, in order, before it had sent a byte and before the function was done. So does a sidecar
	// whose intentions deny the function (it closes after the handshake, or at the first byte); passed on as it is, the end
	// would look like an empty answer of the service (R9). A function that has ended its own direction by then may have asked
	// for nothing more than that, and gets the end.
	errNoAnswer = errors.New("the upstream ended without a byte: an intention may deny this function, or the service is down")

	errUnacknowledged = errors.New("what was sent was not acknowledged: the path to the gateway or the gateway is gone")

	errLimit = errors.New("too many connections are open: raise the limit, or close some")
)

// Cause is why a connection was ended by something other than its two ends. Its text is what the log and the metrics
// call it.
type Cause string

// causeAccept is of the log only: no connection was ended, one could not be taken in.
const causeAccept Cause = "accept"

// The causes.
const (
	CauseDial           Cause = "dial"           // the upstream could not be reached in time, or refused
	CauseRefused        Cause = "refused"        // the upstream ended without a byte before the function did: denied, most likely
	CauseLimit          Cause = "limit"          // there were MaxConnections already
	CauseTruncated      Cause = "truncated"      // the upstream's stream was cut
	CauseIdle           Cause = "idle"           // no traffic for IdleTimeout
	CauseAge            Cause = "age"            // open for MaxAge
	CauseHalfClosed     Cause = "half-closed"    // one direction had ended, and the other was silent for 60 s
	CauseFrozen         Cause = "frozen"         // silent for so long, after a freeze, that the path has forgotten it
	CauseUnacknowledged Cause = "unacknowledged" // what was sent upstream was not acknowledged
	CauseShutdown       Cause = "shutdown"       // the server was shut down
	CausePanic          Cause = "panic"          // a defect of this package or of a Dial
)
