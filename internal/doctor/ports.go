// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// ports looks whether somebody listens where the function connects to. Only the kernel can say, and only in the sandbox; that a port
// is taken there is the extension's doing, for the function does not start if the extension could not have it.
func ports(ctx context.Context, p *patient) []Result {
	f := finding{name: "port"}
	switch {
	case p.env == nil:
		return one(f.skip("there is no upstream"))
	case !p.cfg.Beside:
		return one(f.skip("the ports are those of the function's sandbox, and this is not one"))
	}
	var results []Result
	for _, u := range p.upstreams {
		f := finding{f.name, u.String()}
		var taken, free, wrong []string
		for _, addr := range p.env.BindAddrs {
			hostport := net.JoinHostPort(addr.String(), strconv.Itoa(u.Port()))
			switch err := bind(ctx, hostport); {
			case err == nil:
				free = append(free, hostport)
			case errors.Is(err, syscall.EADDRINUSE):
				taken = append(taken, hostport)
			case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
				// Not every sandbox has ::1; if the user asked for an address that is missing, the extension did not start.
			default:
				wrong = append(wrong, err.Error())
			}
		}
		switch {
		case len(wrong) > 0:
			results = append(results, f.fail("choose a port from 1024 on, and an address of the sandbox", "%s", strings.Join(wrong, "; ")))
		case len(free) > 0:
			results = append(results, f.fail("is the extension's layer attached to the function, for its architecture? Its log says why it would have ended",
				"nobody listens at %s: the extension does not run", strings.Join(free, ", ")))
		default:
			results = append(results, f.ok("%s is listened at", strings.Join(taken, ", ")))
		}
	}
	return results
}

func bind(ctx context.Context, addr string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return ln.Close()
}

// trail is advice: what it is about is in another service of AWS, and none of the function's business.
func trail(_ context.Context, p *patient) []Result {
	f := finding{name: "trail"}
	if p.cfg.Beside {
		return nil
	}
	return one(f.result(Skip, "aws cloudtrail describe-trails; aws cloudtrail get-event-selectors --trail-name NAME",
		"not looked at: the registrator hears of changed tags only where a CloudTrail trail records management events; else at its next schedule"))
}
