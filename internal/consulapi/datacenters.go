// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"context"
	"slices"
)

// home is where the server that answers is. The zero value: there is one datacenter, or it cannot be told.
type home struct{ own, primary string }

// Datacenters lists the federation. With several, the server's own comes first if the token may read its agent; otherwise they are
// in Consul's order, nearest first.
func (c *Client) Datacenters(ctx context.Context) ([]string, error) {
	var list []string
	err := c.do(ctx, operation{name: "listing datacenters"}, func(ctx context.Context) error {
		list = nil
		_, err := c.api.Raw().Query("/v1/catalog/datacenters", &list, c.read(ctx, scope{}))
		return err
	})
	if err != nil {
		return nil, err
	}
	h := c.where(ctx, len(list))
	if i := slices.Index(list, h.own); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, h.own)
	}
	return list, nil
}

// primary is the datacenter that holds config entries, "" for the one that answers.
func (c *Client) primary(ctx context.Context) (string, error) {
	c.mu.Lock()
	h := c.home
	c.mu.Unlock()
	if h != nil {
		return h.primary, nil
	}
	if _, err := c.Datacenters(ctx); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.home == nil {
		return "", nil
	}
	return c.home.primary, nil
}

// where asks the agent about itself, once, if there is more than one datacenter to tell apart.
func (c *Client) where(ctx context.Context, datacenters int) home {
	c.mu.Lock()
	known := c.home
	c.mu.Unlock()
	switch {
	case datacenters < 2:
		known = &home{}
	case known != nil && known.own != "":
		return *known
	default:
		known = c.self(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.home = known
	if known == nil {
		return home{}
	}
	return *known
}

// self returns nil if it cannot be told this time, and the zero home if it may not be.
func (c *Client) self(ctx context.Context) *home {
	var self struct {
		Config struct{ Datacenter, PrimaryDatacenter string }
	}
	op := operation{name: "reading the agent's own datacenter", rule: `agent_prefix "" { policy = "read" }`}
	err := c.do(ctx, op, func(ctx context.Context) error {
		_, err := c.api.Raw().Query("/v1/agent/self", &self, c.read(ctx, scope{}))
		return err
	})
	if err != nil {
		c.log.Warn("cannot tell which datacenter is the primary: service-defaults of another one will not be written", "error", err)
		return nil
	}
	return &home{own: self.Config.Datacenter, primary: self.Config.PrimaryDatacenter}
}
