// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// The levels of LOG_LEVEL that slog has no name for.
const (
	levelTrace = slog.LevelDebug - 4
	levelOff   = slog.Level(math.MaxInt)
)

// config is what the environment says, with every default in place. What each variable means for a user, and its
// default, is in README.md; here is what is accepted.
//
// Space around a value, and around the entries of a list, is ignored; an empty value means unset. Words are taken in
// any case. A list may end in a comma; an entry that is there twice counts once, with a warning.
type config struct {
	runtimeAPI string // AWS_LAMBDA_RUNTIME_API, as Lambda sets it; "" only with an error

	// gateways holds one "host:port" or more, without repeats, as net.JoinHostPort writes them. A host is a host name,
	// an IPv4 address or, in brackets, an IPv6 address; a port is 1 to 65535. There is no scheme and no path.
	gateways []string

	// service is this function's own name: AWS_LAMBDA_FUNCTION_NAME, in CONSUL_SERVICE_NAMESPACE and _PARTITION.
	service mesh.Service

	// parameterPath is where the service's credential document is: PREFIX/<partition>/<namespace>/<function>. The
	// prefix begins with "/" and is legal in Parameter Store; it may end in one slash, which is dropped.
	parameterPath string

	upstreams []mesh.Upstream // may be empty: there is nothing to do then

	refresh      time.Duration // at least 1 s: each look is one of 40 reads a second that an account has
	proxyTimeout time.Duration // at least 1 ms
	dialTimeout  time.Duration // 10 ms to 15 min, which is the longest that a function runs

	// bindAddrs has no repeats; an IPv4 address in IPv6 form counts as the former. They are loopback addresses unless
	// the user says otherwise. The second default, ::1, is not in every sandbox: bindDefault says that nobody asked for
	// it, and so that it may be missing.
	bindAddrs   []netip.Addr
	bindDefault bool

	// warm is the number of spare connections per upstream, 0 (none) to 32, and warmFor what differs from it: see spares.
	warm        int
	warmFor     map[mesh.Service]int
	warmMaxIdle time.Duration // 1 s to 5 min: NAT and NLB forget a flow that was idle for 350 s

	idleTimeout time.Duration // 0 (off) or at least 1 s
	maxAge      time.Duration // 0 (off) or at least 1 s
	maxConns    int           // 1 to 65535; what is above the sandbox's descriptors has no effect

	tlsResumption bool
	strict        bool
	emf           bool // CONSUL_EXTENSION_METRICS is emf, not off

	// The function sets the next two for itself as well: a value that is foreign here is a warning and the default.
	logLevel slog.Level // levelTrace to slog.LevelError, or levelOff
	trace    bool

	// functionMemoryMB is AWS_LAMBDA_FUNCTION_MEMORY_SIZE, 1 to 1048576, or 0 if that is absent or anything else.
	functionMemoryMB int

	// warnings are sentences for the log, each naming its variable.
	warnings []string
}

// spares returns how many spare connections an upstream has. An override holds for all upstreams of its service,
// whatever their port, datacenter and peer.
func (c *config) spares(u mesh.Upstream) int {
	if n, ok := c.warmFor[u.Service()]; ok {
		return n
	}
	return c.warm
}

// parseConfig reads a configuration from an environment in the form of os.Environ. It touches nothing else.
//
// The error joins all that is wrong, one line each, which names the variable, the value and what is accepted. The
// config is of use all the same, to report the error: it has the runtime API's address, the log level and the warnings.
func parseConfig(environ []string) (config, error) {
	r := newReader(environ)
	c := config{
		runtimeAPI:   r.required("AWS_LAMBDA_RUNTIME_API", "the address that Lambda sets"),
		refresh:      r.duration("CONSUL_REFRESH_FREQUENCY", 5*time.Minute, span{min: time.Second}),
		proxyTimeout: r.duration("CONSUL_EXTENSION_PROXY_TIMEOUT", 3*time.Second, span{min: time.Millisecond}),
		dialTimeout:  r.duration("CONSUL_EXTENSION_DIAL_TIMEOUT", 2*time.Second, span{min: 10 * time.Millisecond, max: 15 * time.Minute}),
		warmMaxIdle:  r.duration("CONSUL_EXTENSION_WARM_MAX_IDLE", time.Minute, span{min: time.Second, max: 5 * time.Minute}),
		idleTimeout:  r.duration("CONSUL_EXTENSION_IDLE_TIMEOUT", 0, span{min: time.Second, off: true}),
		maxAge:       r.duration("CONSUL_EXTENSION_MAX_CONNECTION_AGE", 0, span{min: time.Second, off: true}),
		maxConns: setting(r, "CONSUL_EXTENSION_MAX_CONNECTIONS", 400, "a whole number from 1 to 65535",
			func(s string) (int, error) { return number(s, 1, math.MaxUint16) }),
		tlsResumption: setting(r, "CONSUL_EXTENSION_TLS_RESUMPTION", true, booleans, boolean),
		strict:        setting(r, "CONSUL_EXTENSION_STRICT", false, booleans, boolean),
		emf:           setting(r, "CONSUL_EXTENSION_METRICS", false, "off or emf", oneOf(map[string]bool{"off": false, "emf": true})),
		logLevel: lenient(r, "LOG_LEVEL", slog.LevelInfo, "trace, debug, info, warn, error or off", oneOf(map[string]slog.Level{
			"trace": levelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
			"warn": slog.LevelWarn, "error": slog.LevelError, "off": levelOff,
		})),
		trace: lenient(r, "TRACE_ENABLED", false, booleans, boolean),
	}
	if list := r.required("CONSUL_MESH_GATEWAY_URI", gatewayForm); list != "" {
		c.gateways = entries(r, "CONSUL_MESH_GATEWAY_URI", list, gatewayForm, gatewayAddr)
	}
	c.readNames(r)
	c.readBindAddrs(r)
	c.readWarm(r)
	// A memory size that Lambda did not write is no reason to fail: the caller has a default for an unknown one.
	c.functionMemoryMB, _ = number(r.value("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), 1, 1<<20)
	r.warnUnread("CONSUL_EXTENSION_")
	c.warnings = r.warnings
	return c, errors.Join(r.errs...)
}

// readNames reads the names of the mesh: the function's own, its document's path, and the upstreams'.
// The errors of package mesh say the value and what is accepted.
func (c *config) readNames(r *reader) {
	name := r.required("AWS_LAMBDA_FUNCTION_NAME", "the name that Lambda sets")
	namespace, partition := r.value("CONSUL_SERVICE_NAMESPACE"), r.value("CONSUL_SERVICE_PARTITION")
	service, err := mesh.NewService(name, namespace, partition)
	if err == nil {
		c.service = service
	} else {
		// Each part beside others that are legal, so that its error is its variable's.
		const legal = "function"
		if name != "" {
			_, err = mesh.NewService(name, "", "")
			r.check("AWS_LAMBDA_FUNCTION_NAME", err)
		}
		_, err = mesh.NewService(legal, namespace, "")
		r.check("CONSUL_SERVICE_NAMESPACE", err)
		_, err = mesh.NewService(legal, "", partition)
		r.check("CONSUL_SERVICE_PARTITION", err)
		service, _ = mesh.NewService(legal, "", "") // to judge the prefix with
	}

	prefix := r.required("CONSUL_EXTENSION_DATA_PREFIX", "a path prefix in Parameter Store, such as /consul/lambda")
	if prefix != "" {
		if len(prefix) > 1 {
			prefix = strings.TrimSuffix(prefix, "/")
		}
		c.parameterPath, err = service.ParameterPath(prefix)
		r.check("CONSUL_EXTENSION_DATA_PREFIX", err)
	}

	c.upstreams, err = mesh.ParseUpstreams(r.value("CONSUL_SERVICE_UPSTREAMS"))
	r.check("CONSUL_SERVICE_UPSTREAMS", err)
}

func (c *config) readBindAddrs(r *reader) {
	const name = "CONSUL_EXTENSION_BIND_ADDR"
	list := r.value(name)
	if list == "" {
		c.bindDefault = true
		c.bindAddrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		return
	}
	c.bindAddrs = entries(r, name, list, "IP addresses of the sandbox, separated by commas, such as 127.0.0.1,::1",
		func(s string) (netip.Addr, error) {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return addr, errors.New("is not an IP address")
			}
			return addr.Unmap(), nil
		})
}

// readWarm reads a list of at most one number, for all upstreams, and of exceptions name[.namespace[.partition]]=number.
func (c *config) readWarm(r *reader) {
	const (
		name     = "CONSUL_EXTENSION_WARM_CONNECTIONS"
		accepted = "a whole number from 0 to 32, and exceptions from it for services in CONSUL_SERVICE_UPSTREAMS, such as 1,db=0"
	)
	c.warm, c.warmFor = 1, make(map[mesh.Service]int)
	given := false
	for _, entry := range r.split(name, r.value(name), accepted) {
		key, digits, exception := strings.Cut(entry, "=")
		if !exception {
			digits = entry
		}
		n, err := number(strings.TrimSpace(digits), 0, 32)
		if err == nil && !exception {
			if given {
				err = errors.New("is a second number for all upstreams")
			}
			c.warm, given = n, true
		} else if err == nil {
			err = c.addException(r, strings.TrimSpace(key), n)
		}
		r.refuse(name, entry, err, accepted)
	}
}

// addException notes the number of spare connections of one service.
func (c *config) addException(r *reader, key string, n int) error {
	service, err := mesh.ParseService(key)
	if err != nil {
		return errors.New("does not name a service")
	}
	if _, ok := c.warmFor[service]; ok {
		return errors.New("is a second exception for its service")
	}
	c.warmFor[service] = n
	isIt := func(u mesh.Upstream) bool { return u.Service() == service }
	// Upstreams that could not be read are an error already.
	unread := len(c.upstreams) == 0 && r.value("CONSUL_SERVICE_UPSTREAMS") != ""
	if !unread && !slices.ContainsFunc(c.upstreams, isIt) {
		return errors.New("names no upstream")
	}
	return nil
}

const gatewayForm = "host:port with a host name, an IPv4 address or an IPv6 address in brackets, or several separated by commas"

// gatewayAddr reads one mesh gateway.
func gatewayAddr(s string) (string, error) {
	if strings.Contains(s, "://") {
		return "", errors.New("has a scheme")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("is not host:port")
	}
	n, err := number(port, 1, math.MaxUint16)
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

const booleans = "true or false"

func boolean(s string) (bool, error) {
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, errors.New("is not true or false")
	}
	return b, nil
}

// number reads a whole number in digits.
func number(s string, low, high int) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, errors.New("is not a whole number")
	}
	if err != nil || int(n) < low || int(n) > high {
		return 0, errors.New("is out of range")
	}
	return int(n), nil
}

// oneOf reads one of a few words.
func oneOf[T any](words map[string]T) func(string) (T, error) {
	return func(s string) (T, error) {
		value, ok := words[strings.ToLower(s)]
		if !ok {
			return value, errors.New("is not one of them")
		}
		return value, nil
	}
}

// span is the durations that a setting takes: from min to max, if max is not 0, and 0 itself if off.
type span struct {
	min, max time.Duration
	off      bool
}

func (s span) accepted() string {
	text := "a Go duration of at least " + s.min.String()
	if s.max != 0 {
		text += " and at most " + s.max.String()
	}
	text += " such as 90s"
	if s.off {
		text += ", or 0 for none"
	}
	return text
}

func (s span) parse(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("is not a duration")
	case d == 0 && s.off:
		return 0, nil
	case d < s.min || s.max != 0 && d > s.max:
		return 0, errors.New("is out of range")
	}
	return d, nil
}

// reader reads an environment and collects what is wrong with it.
type reader struct {
	env      map[string]string
	read     map[string]bool // the variables that were asked for
	errs     []error
	warnings []string
}

func newReader(environ []string) *reader {
	r := &reader{env: make(map[string]string, len(environ)), read: make(map[string]bool)}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, ok := r.env[name]; !ok { // the first counts, as for os.Getenv
			r.env[name] = strings.TrimSpace(value)
		}
	}
	return r
}

// value returns a variable's value, "" if it is not set.
func (r *reader) value(name string) string {
	r.read[name] = true
	return r.env[name]
}

// required is value, and an error if that is not set.
func (r *reader) required(name, accepted string) string {
	v := r.value(name)
	if v == "" {
		r.errs = append(r.errs, fmt.Errorf("%s: not set; accepted: %s", name, accepted))
	}
	return v
}

// refuse notes that err is what is wrong with a value, unless it is nil.
func (r *reader) refuse(name, value string, err error, accepted string) {
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %q %w; accepted: %s", name, value, err, accepted))
	}
}

// check notes err, each of whose lines says the value and what is accepted, unless it is nil.
func (r *reader) check(name string, err error) {
	if err != nil {
		r.errs = append(r.errs, errors.New(name+": "+strings.ReplaceAll(err.Error(), "\n", "\n"+name+": ")))
	}
}

// setting reads one variable. Where it is not set, or wrong, it returns fallback.
func setting[T any](r *reader, name string, fallback T, accepted string, parse func(string) (T, error)) T {
	v := r.value(name)
	if v == "" {
		return fallback
	}
	value, err := parse(v)
	if err != nil {
		r.refuse(name, v, err, accepted)
		return fallback
	}
	return value
}

// lenient is setting for a variable that is not ours alone: what is wrong is a warning.
func lenient[T any](r *reader, name string, fallback T, accepted string, parse func(string) (T, error)) T {
	v := r.value(name)
	if v == "" {
		return fallback
	}
	value, err := parse(v)
	if err != nil {
		r.warnings = append(r.warnings, fmt.Sprintf("%s: %q %v; accepted: %s; the default is used", name, v, err, accepted))
		return fallback
	}
	return value
}

func (r *reader) duration(name string, fallback time.Duration, s span) time.Duration {
	return setting(r, name, fallback, s.accepted(), s.parse)
}

// split returns the entries of a comma list. An empty list has none; one comma after the last is ignored.
func (r *reader) split(name, list, accepted string) []string {
	if list == "" {
		return nil
	}
	all := strings.Split(strings.TrimSuffix(list, ","), ",")
	var some []string
	for _, entry := range all {
		if entry = strings.TrimSpace(entry); entry != "" {
			some = append(some, entry)
		}
	}
	if len(some) < len(all) {
		r.refuse(name, list, errors.New("has an empty entry"), accepted)
	}
	return some
}

// entries reads each entry of a comma list.
func entries[T comparable](r *reader, name, list, accepted string, parse func(string) (T, error)) []T {
	var values []T
	for _, entry := range r.split(name, list, accepted) {
		value, err := parse(entry)
		switch {
		case err != nil:
			r.refuse(name, entry, err, accepted)
		case slices.Contains(values, value):
			r.warnings = append(r.warnings, fmt.Sprintf("%s: %q is there twice; it counts once", name, entry))
		default:
			values = append(values, value)
		}
	}
	return values
}

// warnUnread warns of each variable whose name begins with prefix and that was never asked for: a slip of the pen, or
// a setting of another version.
func (r *reader) warnUnread(prefix string) {
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		if strings.HasPrefix(name, prefix) && !r.read[name] {
			r.warnings = append(r.warnings, name+": not a setting of this version; it is ignored")
		}
	}
}
