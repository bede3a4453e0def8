// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

const host = "127.0.0.1"

// ports are the server's, all on loopback.
type ports struct {
	http, grpc, server, serfLAN, serfWAN int
}

// address returns host:port.
func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func reserveServerPorts(ctx context.Context) (ports, error) {
	p, err := freePorts(ctx, 5)
	if err != nil {
		return ports{}, err
	}
	return ports{http: p[0], grpc: p[1], server: p[2], serfLAN: p[3], serfWAN: p[4]}, nil
}

// freePorts returns n different ports that nobody has, neither for TCP nor for UDP (gossip needs both). They are free
// again when it returns, so somebody may take one: whoever uses them must be ready to ask once more.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var lc net.ListenConfig
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	free := make([]int, 0, n)
	// All are held to the end, so that they differ, and so that a port which UDP does not have is not offered again. Ten
	// times n is more than a machine that has any left ever needs.
	for range 10 * n {
		l, err := lc.Listen(ctx, "tcp4", address(0))
		if err != nil {
			return nil, fmt.Errorf("choosing ports: %w", err)
		}
		held = append(held, l)
		port := l.Addr().(*net.TCPAddr).Port
		packets, err := lc.ListenPacket(ctx, "udp4", address(port))
		if err != nil {
			continue
		}
		_ = packets.Close()
		if free = append(free, port); len(free) == n {
			return free, nil
		}
	}
	return nil, fmt.Errorf("choosing ports: %d of %d were free for TCP and UDP", len(free), n)
}
