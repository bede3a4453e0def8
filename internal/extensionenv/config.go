// SPDX-License-Identifier: MPL-2.0

// Package extensionenv reads the extension's configuration from its environment: for the extension, and for whoever checks one.
//
//	cfg, err := extensionenv.Parse(os.Environ())
//
// It touches no network, no file and no clock, and does not say what a setting does: package environ reads, the extension's main acts.
package extensionenv

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/environ"
	"github.com/consul-lambda/consul-lambda/internal/logs"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// Config is what the environment says, with every default in place. What each variable means for a user, and its
// default, is in docs/configuration.md; here is what is accepted.
//
// Space around a value, and around the entries of a list, is ignored; an empty value means unset. Words are taken in
// any case. A list may end in a comma; an entry that is there twice counts once, with a warning.
type Config struct {
	RuntimeAPI string // AWS_LAMBDA_RUNTIME_API, as Lambda sets it; "" only with an error

	// Gateways holds one "host:port" or more, without repeats, as net.JoinHostPort writes them. A host is a host name,
	// an IPv4 address or, in brackets, an IPv6 address; a port is 1 to 65535. There is no scheme and no path.
	Gateways []string

	// Service is this function's own name: AWS_LAMBDA_FUNCTION_NAME, in CONSUL_SERVICE_NAMESPACE and _PARTITION.
	Service mesh.Service

	// ParameterPath is where the service's credential document is: PREFIX/<partition>/<namespace>/<function>. The
	// prefix begins with "/" and is legal in Parameter Store; it may end in one slash, which is dropped.
	ParameterPath string

	Upstreams []mesh.Upstream // may be empty: there is nothing to do then

	Refresh      time.Duration // at least 1 s: each look is one of 40 reads a second that an account has
	ProxyTimeout time.Duration // at least 1 ms
	DialTimeout  time.Duration // 10 ms to 15 min, which is the longest that a function runs

	// BindAddrs has no repeats; an IPv4 address in IPv6 form counts as the former. They are loopback addresses unless
	// the user says otherwise. The second default, ::1, is not in every sandbox: BindDefault says that nobody asked for
	// it, and so that it may be missing.
	BindAddrs   []netip.Addr
	BindDefault bool

	// Warm is the number of spare connections per upstream, 0 (none) to 32, and WarmFor what differs from it: see Spares.
	Warm        int
	WarmFor     map[mesh.Service]int
	WarmMaxIdle time.Duration // 1 s to 5 min: NAT and NLB forget a flow that was idle for 350 s

	IdleTimeout    time.Duration // 0 (off) or at least 1 s
	MaxAge         time.Duration // 0 (off) or at least 1 s
	MaxConnections int           // 1 to 65535; what is above the sandbox's descriptors has no effect

	Resumption bool
	Strict     bool
	EMF        bool // CONSUL_EXTENSION_METRICS is emf, not off

	// The function sets the next two for itself as well: a value that is foreign here is a warning and the default.
	LogLevel slog.Level // logs.LevelTrace to slog.LevelError, or logs.LevelOff
	Trace    bool

	// MemoryMB is AWS_LAMBDA_FUNCTION_MEMORY_SIZE, 1 to 1048576, or 0 if that is absent or anything else.
	MemoryMB int

	// Warnings are sentences for the log, each naming its variable.
	Warnings []string
}

// Spares returns how many spare connections an upstream has. An override holds for all upstreams of its service,
// whatever their port, datacenter and peer.
func (c *Config) Spares(u mesh.Upstream) int {
	if n, ok := c.WarmFor[u.Service()]; ok {
		return n
	}
	return c.Warm
}

// Parse reads a configuration from an environment in the form of os.Environ. It touches nothing else.
//
// The error joins all that is wrong, one line each, which names the variable, the value and what is accepted. The
// Config is of use all the same, to report the error: it has the runtime API's address, the log level and the warnings.
func Parse(variables []string) (Config, error) { return parse(environ.New(variables)) }

func parse(r *environ.Reader) (Config, error) {
	c := Config{
		RuntimeAPI:   r.Required("AWS_LAMBDA_RUNTIME_API", "the address that Lambda sets"),
		Refresh:      environ.Duration("CONSUL_REFRESH_FREQUENCY", 5*time.Minute, environ.Span{Min: time.Second}).From(r),
		ProxyTimeout: environ.Duration("CONSUL_EXTENSION_PROXY_TIMEOUT", 3*time.Second, environ.Span{Min: time.Millisecond}).From(r),
		DialTimeout: environ.Duration("CONSUL_EXTENSION_DIAL_TIMEOUT", 2*time.Second,
			environ.Span{Min: 10 * time.Millisecond, Max: 15 * time.Minute}).From(r),
		WarmMaxIdle: environ.Duration("CONSUL_EXTENSION_WARM_MAX_IDLE", time.Minute,
			environ.Span{Min: time.Second, Max: 5 * time.Minute}).From(r),
		IdleTimeout:    environ.Duration("CONSUL_EXTENSION_IDLE_TIMEOUT", 0, environ.Span{Min: time.Second, Off: true}).From(r),
		MaxAge:         environ.Duration("CONSUL_EXTENSION_MAX_CONNECTION_AGE", 0, environ.Span{Min: time.Second, Off: true}).From(r),
		MaxConnections: environ.Int("CONSUL_EXTENSION_MAX_CONNECTIONS", 400, ports).From(r),
		Resumption:     environ.Bool("CONSUL_EXTENSION_TLS_RESUMPTION", true).From(r),
		Strict:         environ.Bool("CONSUL_EXTENSION_STRICT", false).From(r),
		EMF:            environ.Word("CONSUL_EXTENSION_METRICS", false, "off or emf", map[string]bool{"off": false, "emf": true}).From(r),
		LogLevel:       logs.LevelFrom(r),
	}
	trace := environ.Bool("TRACE_ENABLED", false)
	trace.Lenient = true // the function may have one of its own
	c.Trace = trace.From(r)
	if r.Required(gatewayList.Name, gatewayList.Accepted) != "" {
		c.Gateways = gatewayList.From(r)
	}
	c.readNames(r)
	c.readBindAddrs(r)
	c.readWarm(r)
	// A memory size that Lambda did not write is no reason to fail: the caller has a default for an unknown one.
	c.MemoryMB, _ = environ.Range{Low: 1, High: 1 << 20}.Parse(r.Value("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	r.WarnUnread("CONSUL_EXTENSION_")
	c.Warnings = r.Warnings()
	return c, r.Err()
}

// ports are what a TCP port may be; so many connections are possible to one, too.
var ports = environ.Range{Low: 1, High: math.MaxUint16}

// readNames reads the names of the mesh: the function's own, its document's path, and the upstreams'.
// The errors of package mesh say the value and what is accepted.
func (c *Config) readNames(r *environ.Reader) {
	name := r.Required("AWS_LAMBDA_FUNCTION_NAME", "the name that Lambda sets")
	namespace, partition := r.Value("CONSUL_SERVICE_NAMESPACE"), r.Value("CONSUL_SERVICE_PARTITION")
	service, err := mesh.NewService(name, namespace, partition)
	if err == nil {
		c.Service = service
	} else {
		// Each part beside others that are legal, so that its error is its variable's.
		const legal = "function"
		if name != "" {
			_, err = mesh.NewService(name, "", "")
			r.Check("AWS_LAMBDA_FUNCTION_NAME", err)
		}
		_, err = mesh.NewService(legal, namespace, "")
		r.Check("CONSUL_SERVICE_NAMESPACE", err)
		_, err = mesh.NewService(legal, "", partition)
		r.Check("CONSUL_SERVICE_PARTITION", err)
		service, _ = mesh.NewService(legal, "", "") // to judge the prefix with
	}

	prefix := r.Required("CONSUL_EXTENSION_DATA_PREFIX", "a path prefix in Parameter Store, such as /consul/lambda")
	if prefix != "" {
		if len(prefix) > 1 {
			prefix = strings.TrimSuffix(prefix, "/")
		}
		c.ParameterPath, err = service.ParameterPath(prefix)
		r.Check("CONSUL_EXTENSION_DATA_PREFIX", err)
	}

	c.Upstreams, err = mesh.ParseUpstreams(r.Value("CONSUL_SERVICE_UPSTREAMS"))
	r.Check("CONSUL_SERVICE_UPSTREAMS", err)
}

func (c *Config) readBindAddrs(r *environ.Reader) {
	const name = "CONSUL_EXTENSION_BIND_ADDR"
	if r.Value(name) == "" {
		c.BindDefault = true
		c.BindAddrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		return
	}
	c.BindAddrs = environ.List[netip.Addr]{
		Name: name, Accepted: "IP addresses of the sandbox, separated by commas, such as 127.0.0.1,::1",
		Parse: func(s string) (netip.Addr, error) {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return addr, errors.New("is not an IP address")
			}
			return addr.Unmap(), nil
		},
	}.From(r)
}

// readWarm reads a list of at most one number, for all upstreams, and of exceptions name[.namespace[.partition]]=number.
func (c *Config) readWarm(r *environ.Reader) {
	const (
		name     = "CONSUL_EXTENSION_WARM_CONNECTIONS"
		accepted = "a whole number from 0 to 32, and exceptions from it for services in CONSUL_SERVICE_UPSTREAMS, such as 1,db=0"
	)
	c.Warm, c.WarmFor = 1, make(map[mesh.Service]int)
	given := false
	for _, entry := range (environ.List[string]{Name: name, Accepted: accepted}).Split(r) {
		key, digits, exception := strings.Cut(entry, "=")
		if !exception {
			digits = entry
		}
		n, err := environ.Range{High: 32}.Parse(strings.TrimSpace(digits))
		if err == nil && !exception {
			if given {
				err = errors.New("is a second number for all upstreams")
			}
			c.Warm, given = n, true
		} else if err == nil {
			err = c.addException(r, strings.TrimSpace(key), n)
		}
		if err != nil {
			r.Refuse(environ.Wrong{Name: name, Value: entry, Err: err, Accepted: accepted})
		}
	}
}

// addException notes the number of spare connections of one service.
func (c *Config) addException(r *environ.Reader, key string, n int) error {
	service, err := mesh.ParseService(key)
	if err != nil {
		return errors.New("does not name a service")
	}
	if _, ok := c.WarmFor[service]; ok {
		return errors.New("is a second exception for its service")
	}
	c.WarmFor[service] = n
	isIt := func(u mesh.Upstream) bool { return u.Service() == service }
	// Upstreams that could not be read are an error already.
	unread := len(c.Upstreams) == 0 && r.Value("CONSUL_SERVICE_UPSTREAMS") != ""
	if !unread && !slices.ContainsFunc(c.Upstreams, isIt) {
		return errors.New("names no upstream")
	}
	return nil
}

var gatewayList = environ.List[string]{
	Name:     "CONSUL_MESH_GATEWAY_URI",
	Accepted: "host:port with a host name, an IPv4 address or an IPv6 address in brackets, or several separated by commas",
	Parse:    gatewayAddr,
}

// gatewayAddr reads one mesh gateway.
func gatewayAddr(s string) (string, error) {
	if strings.Contains(s, "://") {
		return "", errors.New("has a scheme")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("is not host:port")
	}
	n, err := ports.Parse(port)
	if err != nil {
		return "", fmt.Errorf("has a port that %w", err)
	}
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	if !isAddr && !isHostName(host) || strings.HasPrefix(s, "[") != (isAddr && addr.Is6()) {
		return "", errors.New("has a host that is neither a name nor an address")
	}
	if isAddr {
		host = addr.Unmap().String()
	} else {
		host = strings.ToLower(host)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// isHostName says whether s may be looked up: labels of 1 to 63 letters, digits, "-" and "_", 253 bytes in all, and
// one dot more at the end if the name is absolute. A last label of digits is a mistyped address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if len(label) < 1 || len(label) > 63 || strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
