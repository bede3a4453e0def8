// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

type nodeKey struct {
	registrator.Realm
	name string
}

// listedService has the fields of a catalog service that are ours. Those that a Consul without Enterprise does not have are "".
type listedService struct {
	ID, Service, Namespace, Partition string
	Tags                              []string
	Meta                              map[string]string
	ModifyIndex                       uint64
}

// Services lists the instances on a node. Those that the token may not read are missing from it, as Consul has it; a node that it
// may not read is an error.
func (c *Client) Services(ctx context.Context, r registrator.Realm, node string) (registrator.Node, []registrator.Instance, error) {
	op := operation{name: "listing services", on: "of node " + node, rule: fmt.Sprintf(`node %q { policy = "read" }`, node)}
	var list struct {
		Node     *api.Node
		Services []listedService
	}
	var meta *api.QueryMeta
	err := c.do(ctx, op, func(ctx context.Context) (err error) {
		list.Node, list.Services = nil, nil
		meta, err = c.api.Raw().Query("/v1/catalog/node-services/"+node, &list, c.read(ctx, everywhere(r)))
		return err
	})
	if err != nil {
		return registrator.Node{}, nil, err
	}
	if list.Node == nil || list.Node.Node == "" {
		if meta.ResultsFilteredByACLs {
			return registrator.Node{}, nil, op.failed(ctx, 1, api.StatusError{Code: 403, Body: "the result was filtered"})
		}
		return registrator.Node{Name: node}, nil, nil
	}
	c.keepNode(nodeKey{r, node}, list.Node)
	var instances []registrator.Instance
	for _, s := range list.Services {
		service, err := mesh.NewService(s.Service, s.Namespace, cmp.Or(s.Partition, r.Partition))
		if err != nil {
			continue // no function has such a name: it is somebody else's
		}
		instances = append(instances, registrator.Instance{
			Key:   registrator.Key{Datacenter: r.Datacenter, Service: service},
			ID:    s.ID,
			Tags:  s.Tags,
			Meta:  s.Meta,
			Index: s.ModifyIndex,
		})
	}
	return registrator.Node{Name: node, Meta: list.Node.Meta, Index: list.Node.ModifyIndex, Datacenter: list.Node.Datacenter}, instances, nil
}

// Elsewhere lists the instances of a service of that name on other nodes. An answer without any, of which the token may see only a part,
// is an error.
func (c *Client) Elsewhere(ctx context.Context, key registrator.Key, node string) ([]registrator.Namesake, error) {
	name := key.Service.Name()
	op := operation{name: "looking for service", on: name, rule: `node_prefix "" { policy = "read" } and ` + serviceRule(name, "read")}
	var on []struct {
		Node        string
		ServiceMeta map[string]string
	}
	var meta *api.QueryMeta
	err := c.do(ctx, op, func(ctx context.Context) (err error) {
		on = nil
		meta, err = c.api.Raw().Query("/v1/catalog/service/"+name, &on, c.read(ctx, of(key.Datacenter, key.Service)))
		return err
	})
	if err != nil {
		return nil, err
	}
	var found []registrator.Namesake
	for _, n := range on {
		if !strings.EqualFold(n.Node, node) { // Consul's names are one whatever their case
			found = append(found, registrator.Namesake{Node: n.Node, Meta: n.ServiceMeta})
		}
	}
	if len(found) == 0 && meta.ResultsFilteredByACLs {
		return nil, op.failed(ctx, 1, api.StatusError{Code: 403, Body: "the result was filtered"})
	}
	return found, nil
}

// PutNode creates or changes the node. Its address and ID, which others may have set, stay.
func (c *Client) PutNode(ctx context.Context, r registrator.Realm, n registrator.Node) error {
	node := api.Node{Node: n.Name}
	if n.Index != 0 {
		// An index names one state, so what was listed with it is what is there if the write succeeds.
		known := c.knownNode(nodeKey{r, n.Name})
		if known == nil || known.ModifyIndex != n.Index {
			if _, _, err := c.Services(ctx, r, n.Name); err != nil {
				return err
			}
			known = c.knownNode(nodeKey{r, n.Name})
		}
		if known == nil || known.ModifyIndex != n.Index {
			return fmt.Errorf("writing node %s: %w", n.Name, registrator.ErrConflict)
		}
		node = *known
	}
	node.Meta, node.ModifyIndex, node.CreateIndex = n.Meta, n.Index, 0
	node.Datacenter, node.Partition = r.Datacenter, ""
	if c.enterprise {
		node.Partition = r.Partition
	}
	return c.txn(ctx, txn{
		op:    operation{name: "writing node", on: n.Name, rule: fmt.Sprintf(`node %q { policy = "write" }`, n.Name)},
		scope: scope{r.Datacenter, r.Partition, ""},
		ops:   api.TxnOps{{Node: &api.NodeTxnOp{Verb: api.NodeCAS, Node: node}}},
	})
}

// PutService registers an instance on an existing node.
func (c *Client) PutService(ctx context.Context, node string, i registrator.Instance) error {
	return c.service(ctx, node, serviceChange{"registering service", api.ServiceCAS, i})
}

// DeleteService takes an instance out. One that is gone is no error.
func (c *Client) DeleteService(ctx context.Context, node string, i registrator.Instance) error {
	err := c.service(ctx, node, serviceChange{"deregistering service", api.ServiceDeleteCAS, i})
	if !errors.Is(err, registrator.ErrConflict) {
		return err
	}
	// Consul says the same of an instance that has changed and of one that is gone.
	_, instances, listErr := c.Services(ctx, registrator.Realm{Datacenter: i.Datacenter, Partition: i.Service.Partition()}, node)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, there := range instances {
		if strings.EqualFold(there.ID, i.ID) && there.Service.Namespace() == i.Service.Namespace() {
			return err
		}
	}
	return nil
}

// serviceChange is what is done to an instance.
type serviceChange struct {
	what string // for errors
	verb api.ServiceOp
	registrator.Instance
}

func (c *Client) service(ctx context.Context, node string, i serviceChange) error {
	service := api.AgentService{
		ID:          i.ID,
		Service:     i.Service.Name(),
		Tags:        i.Tags,
		Meta:        i.Meta,
		Weights:     api.AgentWeights{Passing: 1, Warning: 1}, // Consul's own default, which a transaction does not fill in
		ModifyIndex: i.Index,
	}
	if c.enterprise {
		service.Namespace, service.Partition = i.Service.Namespace(), i.Service.Partition()
	}
	return c.txn(ctx, txn{
		op:    operation{name: i.what, on: i.ID, rule: serviceRule(i.Service.Name(), "write")},
		scope: scope{i.Datacenter, i.Service.Partition(), ""},
		ops:   api.TxnOps{{Service: &api.ServiceTxnOp{Verb: i.verb, Node: node, Service: service}}},
	})
}

// txn is one transaction.
type txn struct {
	op    operation
	scope scope
	ops   api.TxnOps
}

// txn goes past consul/api's own method, which drops the status of an error's answer.
func (c *Client) txn(ctx context.Context, t txn) error {
	return c.do(ctx, t.op, func(ctx context.Context) error {
		_, err := c.api.Raw().Write("/v1/txn", t.ops, nil, c.write(ctx, t.scope))
		return err
	})
}

func serviceRule(name, policy string) string {
	return fmt.Sprintf(`service %q { policy = %q }`, name, policy)
}

func (c *Client) keepNode(k nodeKey, n *api.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[k] = n
}

func (c *Client) knownNode(k nodeKey) *api.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[k]
}
