// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"encoding/json"
	"strings"
	"time"
)

// heartbeat is what each full run writes into the meta of the node, under a key of its owner: the only write of a quiet run. It says
// to anyone who looks at Consul that the registrator is alive, and to the next sandbox when the store was last looked at in whole.
type heartbeat struct {
	At       time.Time `json:"at"`
	By       string    `json:"by,omitempty"`
	Enabled  int       `json:"enabled"`            // services that are registered
	LeafLeft string    `json:"leafLeft,omitempty"` // smallest remaining life of a stored leaf, a Go duration
	Failed   int       `json:"failed,omitempty"`
	Looked   time.Time `json:"looked,omitzero"` // last whole look at the store that was acted upon without failure
}

// heartbeatKey is the owner's key in the node's meta, which allows letters, digits, "-" and "_".
func heartbeatKey(o Owner) string { return "lambda-" + strings.ReplaceAll(o.String(), ":", "-") }

// maxMetaValue is what Consul takes for a value of meta, in bytes.
const maxMetaValue = 512

// String returns the value that is written; what it says of the writer is cut until it fits.
func (h heartbeat) String() string {
	for len(marshal(h)) > maxMetaValue {
		h.By = strings.ToValidUTF8(h.By[:len(h.By)/2], "")
	}
	return string(marshal(h))
}

// readHeartbeat reads the last one; what cannot be read is the zero value.
func readHeartbeat(n Node, o Owner) heartbeat {
	var h heartbeat
	if json.Unmarshal([]byte(n.Meta[heartbeatKey(o)]), &h) != nil {
		return heartbeat{}
	}
	return h
}
