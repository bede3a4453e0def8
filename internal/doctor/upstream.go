// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// atOnce is how many upstreams are looked at at a time: more could pass for an attack, and each may take seconds.
const atOnce = 8

// upstreams dials each upstream through each gateway that can be reached.
func upstreams(ctx context.Context, p *patient) []Result {
	f := finding{name: "route"}
	switch {
	case p.env == nil:
		return one(f.skip("there is no upstream"))
	case !p.trusted:
		return one(f.skip("the document has to be in order first"))
	case len(p.open) == 0:
		return one(f.skip("no gateway can be reached"))
	}
	states, stop, err := p.states(ctx)
	defer stop()
	if err != nil {
		return one(f.fail("", "the extension would not use the document: %v", err))
	}
	type dial struct{ gateway, upstream int }
	var dials []dial
	for g := range states {
		for u := range p.upstreams {
			dials = append(dials, dial{g, u})
		}
	}
	found := make([][]Result, len(dials))
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, d := range dials {
		subject := p.upstreams[d.upstream].String()
		if len(p.open) > 1 {
			subject += " through " + p.open[d.gateway]
		}
		all.Go(func() {
			slots <- struct{}{}
			found[i] = p.upstream(ctx, states[d.gateway], d.upstream, subject)
			<-slots
		})
	}
	all.Wait()
	for g := range states {
		blameSilent(found[g*len(p.upstreams) : (g+1)*len(p.upstreams)])
	}
	var results []Result
	for _, r := range found {
		results = append(results, r...)
	}
	return results
}

// blameSilent looks at all that was found through one gateway: where every handshake hangs, it is rather the gateway than each of the
// destinations. The route is the first of what was found of an upstream.
func blameSilent(found [][]Result) {
	if len(found) == 0 {
		return
	}
	for _, r := range found {
		if r[0].Remedy != hungRemedy {
			return
		}
	}
	for _, r := range found {
		r[0].Remedy = "as for " + found[0][0].Subject
	}
	found[0][0].Remedy = silentRemedy
}

// states are what the extension trusts, once for each gateway that can be reached. stop ends them, in each case.
func (p *patient) states(ctx context.Context) (states []*tlsstate.State, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	stop = func() {
		cancel()
		running.Wait()
		for _, s := range states {
			s.Close()
		}
	}
	for _, addr := range p.open {
		s, err := p.state(addr)
		if err != nil {
			return states, stop, err
		}
		states = append(states, s)
		running.Go(func() { s.Run(ctx) })
		if err := ready(ctx, s); err != nil {
			return states, stop, err
		}
	}
	return states, stop, nil
}

// state is that of one gateway, without spares or resumption: each connection is a new one, by a full handshake.
func (p *patient) state(gateway string) (*tlsstate.State, error) {
	return tlsstate.New(tlsstate.Config{
		Upstreams:    p.upstreams,
		Gateways:     []string{gateway},
		Source:       constant(p.text),
		Refresh:      time.Hour,
		NoResumption: true,
		Resolver:     p.cfg.Resolver,
	})
}

// ready waits for the document to be in use, which has been read already: a second is plenty.
func ready(ctx context.Context, s *tlsstate.State) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := s.Ready(ctx)
	return err
}

// constant is a Source of the document that was read already.
type constant []byte

var _ tlsstate.Source = constant(nil)

// Fetch returns the document.
func (c constant) Fetch(context.Context) ([]byte, error) { return c, nil }

// upstream makes one connection, and watches what becomes of it.
func (p *patient) upstream(ctx context.Context, state *tlsstate.State, i int, subject string) []Result {
	route, intention := finding{"route", subject}, finding{"intention", subject}
	names := p.namesOf(p.upstreams[i])
	dialCtx, cancel := context.WithTimeout(ctx, p.env.DialTimeout)
	defer cancel()
	began := time.Now()
	conn, err := state.Dial(dialCtx, i)
	if err != nil {
		detail, remedy := names.explain(err)
		return []Result{route.fail(remedy, "%s", detail), intention.skip("there is no connection")}
	}
	reached := route.ok("%s answers, in %v", names.shown, took(began))
	defer func() { _ = conn.Close() }()
	deadline := time.Now().Add(p.cfg.Watch)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	seen := watch(conn, p.cfg.Send, deadline)
	return []Result{reached, seen.judge(intention, names)}
}

// names are those that the upstream has in the mesh.
type names struct {
	service    mesh.Service
	self       mesh.ID
	sni        string
	shown      string // for people: who answers where the handshake succeeds
	datacenter string // "" across a peering
	peer       string
}

// namesOf says what package tlsstate asks for, to name it. The decision is there.
func (p *patient) namesOf(u mesh.Upstream) names {
	n := names{service: u.Service(), self: p.self, peer: u.Peer(), datacenter: u.Datacenter()}
	if n.peer != "" {
		peer, _ := p.doc.Peer(n.peer)
		if sni, err := mesh.PeeredSNI(n.service, peer.RemoteName, peer.TrustDomain); err == nil {
			n.sni = sni.String()
		}
		n.shown = fmt.Sprintf("service %s of peer %s, or the peer's gateway for it,", n.service, n.peer)
		return n
	}
	if n.datacenter == "" {
		n.datacenter = p.self.Datacenter()
	}
	if sni, err := mesh.ServiceSNI(n.service, n.datacenter, p.self.TrustDomain()); err == nil {
		n.sni = sni.String()
	}
	if id, err := mesh.ServiceID(n.service, n.datacenter, p.self.TrustDomain()); err == nil {
		n.shown = id.String()
	}
	return n
}

// place says where the service is looked for.
func (n names) place() string {
	if n.peer != "" {
		return "exported by peer " + n.peer
	}
	return "registered in datacenter " + n.datacenter
}

// selfName is this function's service.
func selfName(n names) string {
	s, _ := n.self.Service()
	return s.Name()
}
