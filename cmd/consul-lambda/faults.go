// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// fault is one thing that goes wrong in the life of a mesh, done to a site that is well.
type fault struct {
	name, what string
	do         func(*site) error
}

var faults = []fault{
	{"missing-parameter", "the function's document is gone from the store", func(s *site) error {
		s.world.Store.Delete(s.world.ParameterPath())
		return nil
	}},
	{"access-denied", "the role may not read the parameter", failStore(ssmsim.AccessDenied())},
	{"kms-denied", "the role may not use the parameter's key", failStore(ssmsim.KMSDenied())},
	{"throttled", "the account's reads are used up", failStore(ssmsim.Throttled())},
	{"not-a-document", "somebody else wrote the parameter", func(s *site) error {
		s.world.StoreText(`{"privateKeyPEM":"","certPEM":"","trustDomain":""}`)
		return nil
	}},
	{"mismatched-key", "the document's key belongs to another certificate", storeFlaw(meshsim.MismatchedKey)},
	{"expired-leaf", "nobody renewed the leaf", storeFlaw(meshsim.Expired)},
	{"future-leaf", "the leaf is not valid yet: a clock is wrong", storeFlaw(meshsim.NotYetValid)},
	{"missing-root", "the leaf's root is not among those of the document", storeFlaw(meshsim.ForeignCA)},
	{"foreign-leaf", "the document is another function's", storeFlaw(meshsim.OtherIdentity)},
	{"gateway-refused", "nothing listens at the gateway's port", func(s *site) error {
		s.world.Mesh.Gateway.Refuse()
		return nil
	}},
	{"gateway-silent", "packets to the gateway vanish", func(s *site) error { return s.world.Mesh.Gateway.Unreachable(true) }},
	{"no-dns", "the gateway's name does not exist", func(s *site) error {
		s.env["CONSUL_MESH_GATEWAY_URI"] = "mesh-gateway.invalid:8443" // RFC 6761 section 6.4
		return nil
	}},
	{"no-route", "the gateway has no route for " + lab.Web, func(s *site) error { return s.route(lab.Web, "") }},
	{"wrong-identity", "the gateway leads " + lab.Web + " to " + lab.Echo, func(s *site) error {
		return s.route(lab.Web, s.world.Sidecar(lab.Echo).Addr())
	}},
	{"denied-intention", "an intention denies the function at " + lab.Web, func(s *site) error {
		s.world.Sidecar(lab.Web).Intentions().Set(s.world.FunctionID(), meshsim.Deny)
		return nil
	}},
	{"denied-at-first-byte", "an intention denies the function at " + lab.Denied + ", as Envoy does: when it speaks", func(s *site) error {
		s.env["CONSUL_SERVICE_UPSTREAMS"] = s.world.Function().Env["CONSUL_SERVICE_UPSTREAMS"]
		return nil
	}},
	{"lost-events", "functions were tagged, and no event came: for plan", func(s *site) error {
		s.aws.AddFunction("invoices", map[string]string{lab.EnabledTag: "true", registrator.TagMode: "ASYNCHRONOUS"})
		s.aws.AddFunction("reports", map[string]string{lab.EnabledTag: "yes please"})
		s.aws.SetTags("orders", nil)
		return nil
	}},
}

func failStore(f ssmsim.Fault) func(*site) error {
	return func(s *site) error {
		s.world.Store.FailAll("GetParameter", f)
		return nil
	}
}

func storeFlaw(f meshsim.Flaw) func(*site) error {
	return func(s *site) error {
		_, err := s.world.StoreLeafWith(meshsim.LeafOptions{Flaw: f})
		return err
	}
}

// route leads a service's name elsewhere.
func (s *site) route(service, addr string) error {
	name, err := mesh.NewService(service, "", "")
	if err != nil {
		return err
	}
	sni, err := mesh.ServiceSNI(name, s.world.Mesh.CA.Datacenter(), s.world.Mesh.CA.TrustDomain())
	if err != nil {
		return err
	}
	s.world.Mesh.Routes.Set(sni.String(), addr)
	return nil
}

// breaks does the faults of these names to the site.
func (s *site) breaks(names []string) error {
	for _, name := range names {
		f, err := findFault(name)
		if err != nil {
			return err
		}
		if err := f.do(s); err != nil {
			return fmt.Errorf("breaking the world by %s: %w", name, err)
		}
	}
	return nil
}

func findFault(name string) (fault, error) {
	var known []string
	for _, f := range faults {
		if f.name == name {
			return f, nil
		}
		known = append(known, f.name)
	}
	return fault{}, fmt.Errorf("--break %q: want %s", name, strings.Join(known, ", "))
}

// faultHelp lists them.
func faultHelp() string {
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&b, "   %-21s %s\n", f.name, f.what)
	}
	return strings.TrimRight(b.String(), "\n")
}
