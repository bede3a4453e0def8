// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

const kind = api.ServiceDefaults

// Defaults lists the service-defaults entries that the token may read.
func (c *Client) Defaults(ctx context.Context, r registrator.Realm) ([]registrator.Defaults, error) {
	primary, err := c.primary(ctx)
	if err != nil {
		return nil, err
	}
	where := everywhere(r)
	where.datacenter = cmp.Or(primary, r.Datacenter)
	var raw []json.RawMessage
	op := operation{name: "listing service-defaults", rule: `service_prefix "" { policy = "read" }`}
	err = c.do(ctx, op, func(ctx context.Context) error {
		raw = nil
		_, err := c.api.Raw().Query("/v1/config/"+kind, &raw, c.read(ctx, where))
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []registrator.Defaults
	for _, entry := range raw {
		d, ok, err := parseDefaults(r, entry)
		if err != nil {
			return nil, op.failed(ctx, 1, err)
		}
		if ok {
			list = append(list, d)
		}
	}
	return list, nil
}

// parseDefaults takes Consul's own fields out of an entry. It is not ok if no function can have its name.
func parseDefaults(r registrator.Realm, entry json.RawMessage) (d registrator.Defaults, ok bool, err error) {
	var known struct {
		Name, Namespace, Partition string
		ModifyIndex                uint64
	}
	fields := make(map[string]json.RawMessage)
	if json.Unmarshal(entry, &known) != nil || json.Unmarshal(entry, &fields) != nil || known.Name == "" {
		return d, false, unusable("an entry of the list is not a service-defaults")
	}
	service, err := mesh.NewService(known.Name, known.Namespace, cmp.Or(known.Partition, r.Partition))
	if err != nil {
		return d, false, nil
	}
	for _, name := range []string{"CreateIndex", "ModifyIndex", "Hash"} {
		delete(fields, name)
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return d, false, unusable("an entry of the list cannot be encoded again")
	}
	return registrator.Defaults{
		Key: registrator.Key{Datacenter: r.Datacenter, Service: service}, Raw: raw, Index: known.ModifyIndex,
	}, true, nil
}

// PutDefaults writes an entry. Writing what is there already succeeds whatever the index is: Consul looks at that first.
func (c *Client) PutDefaults(ctx context.Context, d registrator.Defaults) error {
	op := defaultsOperation("writing service-defaults", d)
	entry, err := c.entry(d)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op.name, op.on, err)
	}
	return c.do(ctx, op, func(ctx context.Context) error {
		return won(c.api.ConfigEntries().CAS(entry, d.Index, c.write(ctx, of(d.Datacenter, d.Service))))
	})
}

// DeleteDefaults takes an entry out. One that is gone is no error.
func (c *Client) DeleteDefaults(ctx context.Context, d registrator.Defaults) error {
	return c.do(ctx, defaultsOperation("deleting service-defaults", d), func(ctx context.Context) error {
		return won(c.api.ConfigEntries().DeleteCAS(kind, d.Service.Name(), d.Index, c.write(ctx, of(d.Datacenter, d.Service))))
	})
}

// won makes an error of a compare-and-set that lost.
func won(ok bool, _ *api.WriteMeta, err error) error {
	if err == nil && !ok {
		return registrator.ErrConflict
	}
	return err
}

func defaultsOperation(what string, d registrator.Defaults) operation {
	return operation{name: what, on: d.Service.Name(), rule: serviceRule(d.Service.Name(), "write")}
}

// entry is d as Consul wants it: its kind and name are those of the key, and so are namespace and partition, which a Consul without
// Enterprise must not be sent.
func (c *Client) entry(d registrator.Defaults) (rawEntry, error) {
	fields := make(map[string]json.RawMessage)
	if json.Unmarshal(d.Raw, &fields) != nil || fields == nil {
		return rawEntry{}, unusable("the entry is not a JSON object")
	}
	set := map[string]string{"Kind": kind, "Name": d.Service.Name()}
	if c.enterprise {
		set["Namespace"], set["Partition"] = d.Service.Namespace(), d.Service.Partition()
	} else {
		delete(fields, "Namespace")
		delete(fields, "Partition")
	}
	for name, value := range set {
		text, err := json.Marshal(value)
		if err != nil {
			return rawEntry{}, err
		}
		fields[name] = text
	}
	return rawEntry{name: d.Service.Name(), fields: fields}, nil
}

// rawEntry is a config entry that consul/api sends as it is.
type rawEntry struct {
	name   string
	fields map[string]json.RawMessage
}

var _ api.ConfigEntry = rawEntry{}

func (e rawEntry) MarshalJSON() ([]byte, error) { return json.Marshal(e.fields) }

func (e rawEntry) GetKind() string            { return kind }
func (e rawEntry) GetName() string            { return e.name }
func (e rawEntry) GetPartition() string       { return "" }
func (e rawEntry) GetNamespace() string       { return "" }
func (e rawEntry) GetMeta() map[string]string { return nil }
func (e rawEntry) GetCreateIndex() uint64     { return 0 }
func (e rawEntry) GetModifyIndex() uint64     { return 0 }
