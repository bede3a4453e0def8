// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestAStartedServerLeadsSignsAndKnowsItsToken(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{ACL: true, Datacenter: "east"})
	c := client(t, server, server.Token())
	leaf, _, err := c.Agent().ConnectCALeaf("web", nil)
	ok(t, err)
	if !strings.HasSuffix(leaf.ServiceURI, "/ns/default/dc/east/svc/web") {
		t.Errorf("the leaf is for %s", leaf.ServiceURI)
	}
	if life := leaf.ValidBefore.Sub(leaf.ValidAfter); life != 72*time.Hour {
		t.Errorf("without LeafTTL a leaf lives %v, want Consul's 72h", life)
	}
	if _, _, err := client(t, server, "").Agent().ConnectCALeaf("db", nil); err == nil {
		t.Error("with ACL, a caller without a token got a leaf")
	}
}

func TestARestartKeepsDataAddressesAndTokens(t *testing.T) {
	t.Parallel()
	// Each list is what happens to one server before its restarts.
	for _, ends := range [][]string{{"stop", "kill"}, {"nothing"}} {
		t.Run(strings.Join(ends, ","), func(t *testing.T) {
			t.Parallel()
			restartKeeps(t, ends)
		})
	}
}

func restartKeeps(t *testing.T, ends []string) {
	t.Helper()
	server := start(t, consulproc.Config{ACL: true})
	c := client(t, server, server.Token())
	roots, _, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	_, err = c.Catalog().Register(&api.CatalogRegistration{Node: "lambdas", Address: "127.0.0.1",
		Service: &api.AgentService{ID: "fn", Service: "fn"}}, nil)
	ok(t, err)

	do := map[string]func() error{"stop": server.Stop, "kill": server.Kill, "nothing": func() error { return nil }}
	for _, end := range ends {
		before := server.PID()
		ok(t, do[end]())
		if pid := server.PID(); end != "nothing" && pid != 0 {
			t.Errorf("after %s the server has process id %d", end, pid)
		}
		if _, err := c.Status().Leader(); (err == nil) != (end == "nothing") {
			t.Errorf("after %s asking for the leader: %v", end, err)
		}
		ok(t, server.Restart(t.Context()))
		if pid := server.PID(); pid == 0 || pid == before {
			t.Errorf("after %s and a restart the process id is %d, before %d", end, pid, before)
		}
		// A new leader may still be reading its log: only a consistent read waits for that.
		services, _, err := c.Catalog().NodeServiceList("lambdas", &api.QueryOptions{RequireConsistent: true})
		ok(t, err)
		if len(services.Services) != 1 || services.Services[0].ID != "fn" {
			t.Errorf("after %s and a restart the node has %v", end, services.Services)
		}
		again, _, err := c.Agent().ConnectCARoots(nil)
		ok(t, err)
		if again.ActiveRootID != roots.ActiveRootID {
			t.Errorf("%s and a restart changed the root", end)
		}
	}
	ok(t, server.Close())
	ok(t, server.Close())
	if err := server.Restart(t.Context()); !errors.Is(err, consulproc.ErrClosed) {
		t.Errorf("restarting a closed server: %v", err)
	}
	if _, err := server.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "x"}); !errors.Is(err, consulproc.ErrClosed) {
		t.Errorf("a proxy of a closed server: %v", err)
	}
}

func TestASecondDatacenterJoinsThePrimary(t *testing.T) {
	t.Parallel()
	east := start(t, consulproc.Config{Datacenter: "east", ACL: true})
	west := start(t, consulproc.Config{
		Datacenter: "west", PrimaryDatacenter: "east", RetryJoinWAN: []string{east.WANAddr()}, ACL: true, Token: east.Token(),
	})
	if west.Token() != east.Token() || west.Datacenter() != "west" {
		t.Errorf("token %s in datacenter %s", west.Token(), west.Datacenter())
	}
	trust := func(s *consulproc.Server) string {
		roots, _, err := client(t, s, s.Token()).Agent().ConnectCARoots(nil)
		ok(t, err)
		return roots.TrustDomain
	}
	if e, w := trust(east), trust(west); e != w {
		t.Errorf("trust domains differ: %s and %s", e, w)
	}
	for _, server := range []*consulproc.Server{east, west} {
		c := client(t, server, server.Token())
		waittest.NoError(t, func(ctx context.Context) error {
			for _, dc := range []string{"east", "west"} {
				if _, _, err := c.Catalog().Nodes((&api.QueryOptions{Datacenter: dc}).WithContext(ctx)); err != nil {
					return err
				}
			}
			return nil
		})
		leaf, _, err := c.Agent().ConnectCALeaf("web", nil)
		ok(t, err)
		if want := "/dc/" + server.Datacenter() + "/svc/web"; !strings.HasSuffix(leaf.ServiceURI, want) {
			t.Errorf("the leaf is for %s, want …%s", leaf.ServiceURI, want)
		}
	}
}

func TestAFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	t.Cleanup(func() { l.Close() }) // not earlier: the parallel cases outlive this function
	_, port, err := net.SplitHostPort(l.Addr().String())
	ok(t, err)
	for name, c := range map[string]struct {
		config  consulproc.Config
		says    string
		ran     bool
		timeout time.Duration
	}{
		"a mistake in the configuration":     {consulproc.Config{Extra: `nonsense = 1`}, "nonsense", true, 0},
		"a port that stays taken":            {consulproc.Config{Extra: `ports { http = ` + port + ` }`}, "port taken", true, 0},
		"a primary that does not answer":     {consulproc.Config{PrimaryDatacenter: "none"}, "deadline exceeded", true, 3 * time.Second},
		"a leaf's life that is less than 0":  {consulproc.Config{LeafTTL: -1}, "leaf TTL", false, 0},
		"a program that is not there at all": {consulproc.Config{Binary: "/nonexistent/consul"}, "no such file", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, ctx := c.config, t.Context()
			if config.Dir = t.TempDir(); config.Binary == "" {
				config.Binary = binary(t)
			}
			if c.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.timeout)
				defer cancel()
			}
			server, err := consulproc.Start(ctx, config)
			if server != nil || err == nil {
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) || errors.Is(err, consulproc.ErrNotReady) != c.ran {
				t.Errorf("want an error with %q: %v", c.says, err)
			}
			left, err := os.ReadDir(config.Dir)
			ok(t, err)
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// An outgoing connection of anybody may get a stopped server's port for a while.
func TestARestartWaitsForItsPorts(t *testing.T) {
	t.Parallel()
	lines := make(lineChannel, 1)
	server := start(t, consulproc.Config{Log: slog.New(lines)})
	ok(t, server.Stop())
	l, err := net.Listen("tcp4", server.Addr())
	ok(t, err)
	restarted := make(chan error, 1)
	go func() { restarted <- server.Restart(t.Context()) }()
	select {
	case <-lines:
		l.Close()
	case err := <-restarted:
		l.Close()
		t.Fatal("with its port taken, a restart ended: ", err)
	}
	ok(t, <-restarted)
}

// lineChannel is a log handler that sends the first line about a port in use.
type lineChannel chan string

func (lineChannel) Enabled(context.Context, slog.Level) bool { return true }
func (c lineChannel) WithAttrs([]slog.Attr) slog.Handler     { return c }
func (c lineChannel) WithGroup(string) slog.Handler          { return c }
func (c lineChannel) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), "address already in use") {
			select {
			case c <- a.Value.String():
			default:
			}
		}
		return true
	})
	return nil
}

func TestFindTakesTheVariableBeforeTheFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(consulproc.BinaryVariable, "")
	if _, err := consulproc.Find(dir); !errors.Is(err, consulproc.ErrNoBinary) {
		t.Errorf("in an empty folder: %v", err)
	}
	program := dir + "/consul"
	ok(t, os.WriteFile(program, nil, 0o600))
	if path, err := consulproc.Find(dir); err == nil || errors.Is(err, consulproc.ErrNoBinary) {
		t.Errorf("a file that cannot be run: %q, %v", path, err)
	}
	ok(t, os.Chmod(program, 0o700))
	if path, err := consulproc.Find(dir); err != nil || path != program {
		t.Errorf("in the folder: %q, %v", path, err)
	}
	t.Setenv(consulproc.BinaryVariable, dir+"/other")
	// Who names a program wants it, not a skipped test.
	if path, err := consulproc.Find(dir); err == nil || errors.Is(err, consulproc.ErrNoBinary) {
		t.Errorf("named, but not there: %q, %v", path, err)
	}
	t.Setenv(consulproc.BinaryVariable, program)
	if path, err := consulproc.Find(t.TempDir()); err != nil || path != program {
		t.Errorf("named: %q, %v", path, err)
	}
}

func TestTheCallersEnvironmentHasNoSay(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("CONSUL_HTTP_TOKEN", "none")
	server := start(t, consulproc.Config{ACL: true})
	proxy, err := server.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "api", LocalAddr: "127.0.0.1:1", Register: true})
	ok(t, err)
	registered := func(want bool) {
		waittest.NoError(t, func(context.Context) error {
			services, err := client(t, server, server.Token()).Agent().Services()
			if err == nil && slices.ContainsFunc(sorted(services), func(s *api.AgentService) bool {
				return s.Proxy != nil && s.Proxy.DestinationServiceName == "api"
			}) != want {
				err = errors.New("the proxy is registered, or not, against what was asked")
			}
			return err
		})
	}
	registered(true)
	ok(t, proxy.Close())
	ok(t, proxy.Close())
	registered(false)
}

func sorted(services map[string]*api.AgentService) []*api.AgentService {
	list := make([]*api.AgentService, 0, len(services))
	for _, s := range services {
		list = append(list, s)
	}
	return list
}
