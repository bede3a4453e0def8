// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// gateways looks each one up and connects to each of its addresses.
func gateways(ctx context.Context, p *patient) []Result {
	if p.env == nil {
		return one(finding{name: "gateway"}.skip("which it is is not known"))
	}
	results := make([]Result, len(p.env.Gateways))
	var all sync.WaitGroup
	for i, addr := range p.env.Gateways {
		all.Go(func() { results[i] = p.gateway(ctx, addr) })
	}
	all.Wait()
	for i, r := range results {
		if r.Status != Fail {
			p.open = append(p.open, p.env.Gateways[i])
		}
	}
	for i := range results {
		// The extension goes to another one, 300 ms later at the first time.
		if results[i].Status == Fail && len(p.open) > 0 {
			results[i].Status = Warn
		}
	}
	return results
}

// elsewhere is added where the way from here says little about the way from the function.
const elsewhere = " If only the function's network can reach it, run this there: examples/mesh-function does for the event {\"doctor\":true}"

func (p *patient) gateway(ctx context.Context, addr string) Result {
	f := finding{"gateway", addr}
	ctx, cancel := context.WithTimeout(ctx, p.env.DialTimeout)
	defer cancel()
	note := ""
	if !p.cfg.Beside {
		note = elsewhere
	}
	host, port, _ := net.SplitHostPort(addr) // extensionenv has read it
	began := time.Now()
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return f.fail("is the name right, and can the function's subnet resolve it (private hosted zone, DNS support of the VPC)?"+note,
			"its name cannot be looked up: %s", lookupCause(err))
	}
	looked := took(began)
	dead := make([]string, len(addrs))
	remedies := make([]string, len(addrs))
	began = time.Now()
	var all sync.WaitGroup
	for i, a := range addrs {
		all.Go(func() { dead[i], remedies[i] = connect(ctx, net.JoinHostPort(a.String(), port)) })
	}
	all.Wait()
	connected := took(began)
	texts, remedy, alive := []string{}, "", 0
	for i, text := range dead {
		if text == "" {
			alive++
			continue
		}
		if addrs[i].String() != host {
			text = addrs[i].String() + " " + text
		}
		texts, remedy = append(texts, text), remedies[i]
	}
	detail := strings.Join(texts, "; ")
	switch {
	case alive == 0:
		return f.fail(remedy+note, "%s", detail)
	case alive < len(addrs):
		return f.warn(remedy, "%d of its %d addresses are dead: %s", len(addrs)-alive, len(addrs), detail)
	case len(addrs) == 1 && addrs[0].String() == host:
		return f.ok("TCP in %v", connected)
	}
	return f.ok("%s, looked up in %v, TCP in %v", count(len(addrs), "address"), looked, connected)
}

func (p *patient) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if literal, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{literal}, nil
	}
	addrs, err := p.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("it has no address")
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// lookupCause leaves out the server that was asked: it says nothing to who reads this.
func lookupCause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Err
	}
	return err.Error()
}

// connect opens and closes a TCP connection. It returns what went wrong, "" for nothing, and what to do about it.
func connect(ctx context.Context, addr string) (detail, remedy string) {
	began := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close()
		return "", ""
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections", "is the mesh gateway up, and is this the port on which it listens for the mesh (its Kubernetes service's, by default 443 or 8443)?"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("does not answer within %v", time.Since(began).Round(100*time.Millisecond)),
			"is there a route to it, and do security groups and network ACLs let the function's subnet in?"
	}
	return "cannot be reached: " + err.Error(), "is there a route to it from here?"
}
