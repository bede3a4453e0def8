// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Config says what server to run. The zero value lacks only Binary.
type Config struct {
	// Binary is the path of the Consul program, see [Find]. Required.
	Binary string
	// Dir is where the server's folder is made. Empty is the system's directory for temporary files.
	Dir string
	// Datacenter is the server's; empty is "dc1".
	Datacenter string
	// PrimaryDatacenter is the one with the root certificate and the tokens; empty is the server's own.
	PrimaryDatacenter string
	// RetryJoinWAN are the WAN addresses of servers in other datacenters, see [Server.WANAddr]. It needs one of the
	// primary datacenter if that is another; Start then waits for its certificate authority.
	RetryJoinWAN []string
	// ACL denies everything to those without a token.
	ACL bool
	// Token is the management token if ACL is set; empty makes a new one. In a secondary datacenter it must be that of
	// the primary. It is a UUID.
	Token string
	// LeafTTL is the life of a service's certificate; 0 is Consul's 72 h, negative is an error. Consul's lower limit of
	// an hour is switched off. Life counts from a minute before the certificate is signed, so one of a minute or less is
	// dead when it is made; and of a life under ten minutes every plain read makes a new certificate
	// (agent/leafcert/util.go of Consul).
	LeafTTL time.Duration
	// Extra is a configuration in HCL that is read last: it adds to what is here and wins over it.
	Extra string
	// Log gets what the programs say, at debug level. Nil discards it.
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Binary == "" {
		return c, errors.New("no binary")
	}
	if c.LeafTTL < 0 {
		return c, fmt.Errorf("negative leaf TTL %v", c.LeafTTL)
	}
	if c.Datacenter == "" {
		c.Datacenter = "dc1"
	}
	if c.PrimaryDatacenter == "" {
		c.PrimaryDatacenter = c.Datacenter
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case !c.ACL:
		c.Token = ""
	case c.Token == "":
		c.Token = newToken()
	}
	return c, nil
}

type object = map[string]any

// write puts the configuration files for ports into dir and returns the agent's arguments.
func (c Config) write(dir string, p ports) ([]string, error) {
	text, err := json.MarshalIndent(c.agent(dir, p), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	args := []string{"agent"}
	// In this order: the agent merges its files, the last one wins.
	for _, file := range []struct {
		name string
		text []byte
	}{{"server.json", text}, {"extra.hcl", []byte(c.Extra)}} {
		path := filepath.Join(dir, file.name)
		if err := os.WriteFile(path, file.text, 0o600); err != nil {
			return nil, fmt.Errorf("writing the configuration: %w", err)
		}
		args = append(args, "-config-file="+path)
	}
	return args, nil
}

// agent returns the agent's configuration. Keys are Consul's.
func (c Config) agent(dir string, p ports) object {
	ca := object{
		// Signing is not throttled: a test asks for hundreds of leaves at once.
		"csr_max_per_second": 0,
		// Without it a leaf lives an hour at least. Consul has no lower-case spelling for it.
		"SkipValidate": true,
	}
	if c.LeafTTL > 0 {
		ca["leaf_cert_ttl"] = c.LeafTTL.String()
	}
	config := object{
		"server": true, "bootstrap_expect": 1, "node_name": "server-" + c.Datacenter,
		"datacenter": c.Datacenter, "primary_datacenter": c.PrimaryDatacenter,
		"data_dir":  filepath.Join(dir, "data"),
		"bind_addr": host, "client_addr": host,
		"ports": object{
			"http": p.http, "https": -1, "grpc": p.grpc, "grpc_tls": -1, "dns": -1,
			"server": p.server, "serf_lan": p.serfLAN, "serf_wan": p.serfWAN,
		},
		"retry_join_wan": c.RetryJoinWAN, "retry_interval_wan": "1s",
		"connect":   object{"enabled": true, "ca_provider": "consul", "ca_config": ca},
		"peering":   object{"enabled": true},
		"ui_config": object{"enabled": false},
		// The shortest timeouts of the election: two seconds to a leader, not ten.
		"performance":          object{"raft_multiplier": 1},
		"log_level":            "info",
		"disable_update_check": true, "disable_anonymous_signature": true,
	}
	if c.ACL {
		config["acl"] = object{
			"enabled": true, "default_policy": "deny",
			"enable_token_replication": c.PrimaryDatacenter != c.Datacenter,
			"tokens":                   object{"initial_management": c.Token, "agent": c.Token, "replication": c.Token},
		}
	}
	return config
}
