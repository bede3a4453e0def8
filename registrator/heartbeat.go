// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
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

// beat writes the heartbeat into the first node of our name that is nobody's machine (G5).
func (a *applier) beat(ctx context.Context) error {
	h := heartbeat{At: a.now().UTC(), By: a.cfg.By, Enabled: a.result.Enabled, Failed: len(a.result.Failures)}
	if a.result.LeafOf != "" {
		h.LeafLeft = a.result.LeafLeft.Round(time.Second).String()
	}
	if !a.lookAgain {
		h.Looked = a.memory.looked.UTC()
	}
	for _, realm := range a.o.place.realms() {
		if node, read := a.o.nodes[realm]; read {
			if written, err := a.beatIn(ctx, realm, node, h); written || err != nil {
				return err
			}
		}
	}
	return errors.New(`each node of that name exists and is not marked external-node "true"`)
}

// beatIn writes it in one realm, with the node as it was listed unless that is stale: this run may have changed it, and another
// registrator may have written its own heartbeat at the same moment.
func (a *applier) beatIn(ctx context.Context, realm Realm, node Node, h heartbeat) (written bool, err error) {
	stale := a.nodeChanged
	for range 3 {
		if stale {
			if node, _, err = a.cfg.Consul.Services(ctx, realm, a.cfg.Node); err != nil {
				return false, err
			}
		}
		if node.Index != 0 && !node.is(nodeMeta) {
			return false, nil
		}
		value := map[string]string{heartbeatKey(a.cfg.Owner): h.String()}
		maps.Copy(value, nodeMeta) // of a node that there is not yet
		if err = a.cfg.Consul.PutNode(ctx, realm, node.with(a.cfg.Node, value)); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
		stale = true
	}
	return false, err
}
