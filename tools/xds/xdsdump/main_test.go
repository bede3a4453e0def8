// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	lambda "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/aws_lambda/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// server answers as Consul does: nothing after an answer until that was acknowledged, routes only by name.
type server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	withRoute bool
}

func (s server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("x-consul-token")) != 1 || md.Get("x-consul-token")[0] != "secret" {
		return fmt.Errorf("the token is %v", md.Get("x-consul-token"))
	}
	for n := 0; ; {
		asked, err := stream.Recv()
		if err != nil {
			return err
		}
		var r proto.Message
		name := "web"
		switch {
		case asked.ResponseNonce != "":
			continue
		case asked.TypeUrl == clusterType && asked.Node.GetId() == "web-proxy" && len(asked.ResourceNamesSubscribe) == 0:
			r = &cluster.Cluster{Name: name}
		case asked.TypeUrl == listenerType:
			r = &listener.Listener{Name: name, FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
				ConfigType: &listener.Filter_TypedConfig{TypedConfig: wrapped(&manager.HttpConnectionManager{
					RouteSpecifier: &manager.HttpConnectionManager_Rds{Rds: &manager.Rds{RouteConfigName: "to-web"}},
					HttpFilters: []*manager.HttpFilter{{
						ConfigType: &manager.HttpFilter_TypedConfig{TypedConfig: wrapped(&lambda.Config{Arn: "arn:of:web"})},
					}},
				})},
			}}}}}
		case asked.TypeUrl == routeType && s.withRoute:
			name = asked.ResourceNamesSubscribe[0]
			r = &route.RouteConfiguration{Name: name}
		default:
			continue
		}
		n++
		err = stream.Send(&discovery.DeltaDiscoveryResponse{
			TypeUrl: asked.TypeUrl, Nonce: fmt.Sprint(n), Resources: []*discovery.Resource{{Name: name, Resource: wrapped(r)}},
		})
		if err != nil {
			return err
		}
	}
}

func wrapped(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err) // of a message that this file made
	}
	return a
}

// start serves for the life of the test.
func start(t *testing.T, s server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return l.Addr().String()
}

func token(name string) string {
	return map[string]string{"CONSUL_HTTP_TOKEN": "secret"}[name]
}

func TestClustersListenersAndTheRoutesTheyNameArePrinted(t *testing.T) {
	t.Parallel()
	var out, says bytes.Buffer
	code := run([]string{"-addr", start(t, server{withRoute: true}), "-proxy", "web-proxy", "-until", `"arn":"arn:of:web"`}, token, &out, &says)
	var got struct{ Clusters, Listeners, Routes map[string]json.RawMessage }
	if err := json.Unmarshal(out.Bytes(), &got); code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s%s", code, err, out.String(), says.String())
	}
	if got.Clusters["web"] == nil || got.Listeners["web"] == nil || got.Routes["to-web"] == nil {
		t.Errorf("printed: %s", out.String())
	}
}

func TestWhatDoesNotComeInTimeIsSaid(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"a route that a listener names": {"-addr", start(t, server{})},
		"what was to be waited for":     {"-addr", start(t, server{withRoute: true}), "-until", "never"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, says bytes.Buffer
			code := run(append(args, "-proxy", "web-proxy", "-timeout", "300ms"), token, &out, &says)
			if code != 1 || !strings.Contains(out.String(), "arn:of:web") || !strings.Contains(says.String(), "DeadlineExceeded") {
				t.Errorf("exit %d: %s%s", code, out.String(), says.String())
			}
		})
	}
}

func TestAMistakeInTheArgumentsIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"-proxy", "a", "-until", "("}, {"-proxy", "a", "more"}, {"-nonsense"}} {
		var out, says bytes.Buffer
		if code := run(args, token, &out, &says); code != 2 || out.Len() > 0 || says.Len() == 0 {
			t.Errorf("%v: exit %d, %q", args, code, says.String())
		}
	}
}
