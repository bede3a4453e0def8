// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	// Every message that Consul puts into an Any has to be known to be printed; a missing one is an error that names it.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/aws_lambda/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	semver "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
)

// target is who is asked, and as which proxy. It holds a token: it is not for logs.
type target struct{ addr, proxy, token string }

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	routeType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// kinds are the names that types have in a snapshot. Endpoints, which Consul sends unasked, have none.
var kinds = map[string]string{clusterType: "clusters", listenerType: "listeners", routeType: "routes"}

// snapshot has the resources of each kind by name.
type snapshot map[string]map[string]json.RawMessage

// complete says whether there is at least one cluster and one listener, as every proxy has, and each route that a listener names.
func (s snapshot) complete() bool {
	for name := range routesOf(s["listeners"]) {
		if s["routes"][name] == nil {
			return false
		}
	}
	return len(s["clusters"]) > 0 && len(s["listeners"]) > 0
}

// watch asks for everything and takes what comes until enough says so. It returns what it has at the end, whatever that is.
func watch(ctx context.Context, t target, enough func(snapshot) bool) (snapshot, error) {
	seen := snapshot{"clusters": {}, "listeners": {}, "routes": {}}
	conn, err := grpc.NewClient(t.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return seen, fmt.Errorf("connecting to %s: %w", t.addr, err)
	}
	defer func() { _ = conn.Close() }()
	if t.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-consul-token", t.token)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return seen, fmt.Errorf("opening the stream: %w", err)
	}
	node := &core.Node{Id: t.proxy, Cluster: t.proxy, UserAgentName: "envoy", UserAgentVersionType: &core.Node_UserAgentBuildVersion{
		// Consul refuses an Envoy of another age than its own (envoyextensions/xdscommon): this is one that 1.22 knows.
		UserAgentBuildVersion: &core.BuildVersion{Version: &semver.SemanticVersion{MajorNumber: 1, MinorNumber: 35, Patch: 3}},
	}}
	// Naming none means all, as in Envoy's own first question; Consul takes "*" for a name. Routes are asked for by the names that
	// listeners use.
	for _, kind := range []string{clusterType, listenerType} {
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: kind}); err != nil {
			return seen, fmt.Errorf("asking for %s: %w", kinds[kind], err)
		}
	}
	asked := map[string]bool{}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return seen, fmt.Errorf("waiting for what was asked: %w", err)
		}
		if err := seen.take(answer); err != nil {
			return seen, err
		}
		// What is not acknowledged keeps Consul from sending what depends on it.
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: answer.TypeUrl, ResponseNonce: answer.Nonce}); err != nil {
			return seen, fmt.Errorf("acknowledging: %w", err)
		}
		var names []string
		for name := range routesOf(seen["listeners"]) {
			if !asked[name] {
				asked[name], names = true, append(names, name)
			}
		}
		if len(names) > 0 {
			if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: routeType, ResourceNamesSubscribe: names}); err != nil {
				return seen, fmt.Errorf("asking for routes: %w", err)
			}
		}
		if enough(seen) {
			return seen, nil
		}
	}
}

// take adds what came and removes what went.
func (s snapshot) take(answer *discovery.DeltaDiscoveryResponse) error {
	kind := kinds[answer.TypeUrl]
	if kind == "" {
		return nil
	}
	for _, r := range answer.Resources {
		m, err := r.Resource.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("reading %s: %w", r.Name, err)
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			return fmt.Errorf("printing %s: %w", r.Name, err)
		}
		s[kind][r.Name] = text
	}
	for _, name := range answer.RemovedResources {
		delete(s[kind], name)
	}
	return nil
}

// routesOf finds the names of route configurations that listeners refer to, wherever they do.
func routesOf(listeners map[string]json.RawMessage) map[string]bool {
	names := map[string]bool{}
	for _, text := range listeners {
		var value any
		if json.Unmarshal(text, &value) == nil {
			collect(value, names)
		}
	}
	return names
}

func collect(value any, names map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		if name, ok := v["routeConfigName"].(string); ok {
			names[name] = true
		}
		for _, inner := range v {
			collect(inner, names)
		}
	case []any:
		for _, inner := range v {
			collect(inner, names)
		}
	}
}
