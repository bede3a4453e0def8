// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"slices"
)

// What is said of our node, so that Consul's own anti-entropy and external monitors take it for what it is.
var nodeMeta = map[string]string{"external-node": "true", "external-probe": "true"}

// nodeChanges plans the node of each realm in which something is registered. A node that exists, is not marked as an external one
// and carries nothing of ours is a machine of somebody's: nothing is registered there.
func (p *planner) nodeChanges() {
	var changes []Change
	for realm, n := range p.nodes {
		in := func(c Change) bool { return c.node == nil && c.key.realm() == realm }
		if n.is(nodeMeta) || !slices.ContainsFunc(p.plan.Changes, in) {
			continue
		}
		if n.Index != 0 && !p.holdsIn(realm) {
			p.fail(p.node, "the node is in "+realm.String()+` already, without the meta external-node "true": want a name that no machine has`)
			for _, c := range p.plan.Changes {
				if in(c) {
					p.planned[c.key.fold()] = false
				}
			}
			p.plan.Changes = slices.DeleteFunc(p.plan.Changes, in)
			continue
		}
		c := Change{Kind: Update, Name: "node " + p.node, Reason: "its meta differ in " + realm.String(), urgency: urgentNode, realm: realm}
		if n.Index == 0 {
			c.Kind, c.Reason = Create, "there is no such node in "+realm.String()
		}
		for _, field := range slices.Sorted(maps.Keys(nodeMeta)) {
			if n.Meta[field] != nodeMeta[field] {
				c.Diff = append(c.Diff, Difference{"meta." + field, n.Meta[field], nodeMeta[field]})
			}
		}
		wanted := n.with(p.node, nodeMeta)
		c.node = &wanted
		changes = append(changes, c)
	}
	p.plan.Changes = append(p.plan.Changes, changes...)
}

func (p *planner) holdsIn(realm Realm) bool {
	for _, h := range p.held {
		if h.realm() == realm {
			return true
		}
	}
	return false
}

// is says whether the node exists and has these pairs in its meta.
func (n Node) is(meta map[string]string) bool {
	for field, value := range meta {
		if n.Meta[field] != value {
			return false
		}
	}
	return n.Index != 0
}

// with returns the node with these pairs added to its meta.
func (n Node) with(name string, meta map[string]string) Node {
	all := copied(n.Meta)
	maps.Copy(all, meta)
	return Node{Name: name, Meta: all, Index: n.Index}
}

// onRenamedNode says whether the service is ours on a node of another name, as all are when the registrator's node was renamed. That
// is a failure: nobody keeps those leaves alive.
func (p *planner) onRenamedNode(k Key) bool {
	for _, n := range p.namesakes[k.fold()] {
		if n.Meta[metaOwner] == p.owner.String() {
			p.astray[n.Node]++
			return true
		}
	}
	return false
}

// renamedNodes says so once for each node.
func (p *planner) renamedNodes() {
	for node, services := range p.astray {
		p.fail("node "+node, fmt.Sprintf("%d services of this registrator are on it, whose leaves nobody renews, and it is to keep node %s: "+
			"set NODE_NAME back to %s, or take that node out of Consul's catalog so that all is registered anew", services, p.node, node))
	}
}
