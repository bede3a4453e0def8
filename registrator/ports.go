// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"encoding/json"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Functions is AWS Lambda. Its calls keep to their API's rate, retry throttling within ctx, and may be made concurrently.
type Functions interface {
	// List looks at the functions of the account and region, from where the last look ended ("" for the beginning). It gives
	// everything it says or an error, never a part that looks whole (G2, G11).
	List(ctx context.Context, from string) (Listing, error)

	// Get reads one function anew. An error that wraps ErrNoFunction means that AWS says there is none of that name; every
	// other error, one about its tags included, means nothing.
	Get(ctx context.Context, name string) (Function, error)
}

// Function is a Lambda function as AWS shows it: its name is that of the ARN.
type Function struct {
	ARN  ARN
	Tags map[string]string // all of its tags; nil: none
}

// Listing is what is known of an account's functions after a look at them.
type Listing struct {
	// Functions carry the tag that enables, whatever its value, unless they were found without the tagging API:
	// then they are any.
	Functions []Function
	// Next is where the following run goes on. Empty: this look reached the end.
	Next string
}

// Consul is a Consul cluster, through one agent or server. Its calls keep to their rates, retry 429 within ctx, and may be made
// concurrently. Writes that lose a race wrap ErrConflict and have changed nothing. Of any other error of a write nobody knows whether it
// was made.
type Consul interface {
	// Datacenters lists them, the server's own first where that can be told.
	Datacenters(ctx context.Context) ([]string, error)

	// Services lists all instances on the node of that name, whoever's they are. A node that does not exist has Index 0.
	Services(ctx context.Context, r Realm, node string) (Node, []Instance, error)

	// Defaults lists all service-defaults entries.
	Defaults(ctx context.Context, r Realm) ([]Defaults, error)

	// Elsewhere lists the instances of a service of that name, in the key's datacenter, that are on any node but the one named
	// ("": on any node). nil: there are none, which is never said for want of a permission.
	Elsewhere(ctx context.Context, key Key, node string) ([]Namesake, error)

	// Roots lists the trusted roots of the server's own datacenter.
	Roots(ctx context.Context) (Roots, error)

	// Leaf asks for a service's leaf in a plain read: Consul hands out the one it has until 90 % of its life are over.
	Leaf(ctx context.Context, s mesh.Service) (Leaf, error)

	// Peers lists the established peerings of a partition. An error that wraps ErrDenied means that they cannot be known.
	Peers(ctx context.Context, partition string) ([]mesh.DocumentPeer, error)

	// PutNode creates or changes the node in a realm, if its index is still n.Index.
	PutNode(ctx context.Context, r Realm, n Node) error

	// PutService registers an instance on an existing node, if its index is still i.Index.
	PutService(ctx context.Context, node string, i Instance) error

	// DeleteService takes an instance out, if its index is still i.Index. One that is gone is no error.
	DeleteService(ctx context.Context, node string, i Instance) error

	// PutDefaults writes an entry, if its index is still d.Index. An error that wraps ErrInUse says that others need what it takes away.
	PutDefaults(ctx context.Context, d Defaults) error

	// DeleteDefaults takes an entry out, if its index is still d.Index. One that is gone is no error; ErrInUse is as for PutDefaults.
	DeleteDefaults(ctx context.Context, d Defaults) error
}

// Node is the catalog's node that carries all instances, in one realm.
type Node struct {
	Name  string
	Meta  map[string]string
	Index uint64 // Consul's ModifyIndex; 0: there is no such node

	Datacenter string // the name of the one that it is in; "" if that is not known. It is not written
}

// Instance is one registered service on a node.
type Instance struct {
	Key
	ID    string // Consul's ServiceID
	Tags  []string
	Meta  map[string]string
	Index uint64 // Consul's ModifyIndex; 0: not registered yet
}

// Namesake is an instance of a service on a node that is not ours.
type Namesake struct {
	Node string
	Meta map[string]string
}

// Defaults is a service-defaults entry. Fields that our client does not know survive in Raw.
type Defaults struct {
	Key
	Raw   json.RawMessage // a JSON object in Consul's spelling, without CreateIndex, ModifyIndex and Hash
	Index uint64          // Consul's ModifyIndex; 0: there is none yet
}

// Roots are the certificate authorities that Consul lists, the ones that were rotated out included.
type Roots struct {
	TrustDomain string
	PEM         []string // one root each, in the order of their IDs
	ID          string   // of the set: the same for the same roots, whatever their order
}

// Leaf is a service's own certificate and key as Consul handed it out. It must not be logged.
type Leaf struct {
	CertPEM       string // the leaf, then its intermediates
	PrivateKeyPEM string
	NotBefore     time.Time // as Consul has it; a run goes by the certificate's own
	NotAfter      time.Time
}

// Documents is the store of credential documents. Its calls may be made concurrently; each is bounded by ctx.
type Documents interface {
	// Put stores a document over whatever is there, unconditionally, and returns its version: two writers that overlap are told by
	// the versions, as each next one is greater.
	Put(ctx context.Context, path string, document []byte) (version int64, err error)
	// Delete removes a document, unconditionally, whatever its version. One that is gone is no error.
	Delete(ctx context.Context, path string) error
	// Page lists a part of what is stored, from the token that the last page gave ("" for the beginning and after the end).
	Page(ctx context.Context, token string) (page []Stored, next string, err error)
}

// Stored is a document in the store, seen without its content.
type Stored struct {
	Path    string
	Version int64
	// Ours says that a registrator wrote it: only such a document may ever be taken for an orphan.
	Ours bool
}
