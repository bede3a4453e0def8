// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// trouble is a kind of fault that the soak injects. strike does it, after entering the injury, and returns how to end it.
// An error says that there was nothing to strike, or that the lab failed.
type trouble struct {
	kind   string
	harms  harm
	strike func(ctx context.Context, s *soak, i *injury) (heal func() error, err error)
}

// errNobody: no call was under way that the fault could have struck.
var errNobody = errors.New("no call to strike")

// forgotten is the one fault that a call may wait for longer than longest to be told of: see forget.
const forgotten = "the path forgets a stream"

// troubles are all there are.
var troubles = []trouble{
	{"gateway refuses", dialling, func(ctx context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		s.rig.Mesh.Gateway.Refuse()
		return func() error { return s.rig.Mesh.Gateway.Reopen(ctx) }, nil
	}},
	{"gateway answers no SYN", dialling, func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		return func() error { return s.rig.Mesh.Gateway.Unreachable(false) }, s.rig.Mesh.Gateway.Unreachable(true)
	}},
	{"gateway resets new connections", dialling, toCome(meshsim.FaultPlan{Accept: meshsim.AcceptReset})},
	{"gateway accepts and stays silent", dialling, toCome(meshsim.FaultPlan{Accept: meshsim.AcceptSilent})},
	{"handshake stalls half way", dialling, toCome(down(meshsim.StallBytes, 60))},
	{"handshake is cut half way", dialling, toCome(down(meshsim.CutBytes, 60))},
	{"handshake is garbage", dialling, toCome(down(meshsim.GarbageBytes, 0))},
	{"all dies: reset", dialling | streams, func(_ context.Context, s *soak, i *injury) (func() error, error) {
		g := s.rig.Mesh.Gateway
		s.ledger.strike(i)
		g.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptReset})
		g.Kill(-1, 0, meshsim.EndRST)
		return s.soundGateway, nil
	}},
	{"all goes through a long line", nothing, toAll(meshsim.FaultPlan{Delay: 15 * time.Millisecond})},
	{"all comes byte by byte", nothing, toAll(meshsim.FaultPlan{Drip: true})},
	{"a service dies: resets", dialling | streams, dies(meshsim.EndRST)},
	{"a service dies: bare FINs", dialling | streams, dies(meshsim.EndFIN)},
	{"spares are reset", dialling | streams, idle(meshsim.EndRST)},
	{"spares get a bare FIN", dialling | streams, idle(meshsim.EndFIN)},

	{"a stream is reset", picked, toOne(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.ResetBytes}})},
	{"a stream is cut without close_notify", picked, toOne(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.CutBytes}})},
	{"a stream becomes garbage, downwards", picked, toOne(down(meshsim.GarbageBytes, 0))},
	{"a stream becomes garbage, upwards", picked, toOne(meshsim.FaultPlan{Up: meshsim.ByteFault{Kind: meshsim.GarbageBytes}})},
	{"streams stall, then go on", nothing, stall},
	{forgotten, picked, forget},

	{"store throttles", nothing, storeFails(ssmsim.Throttled())},
	{"store answers 500", nothing, storeFails(ssmsim.InternalError())},
	{"store does not answer", nothing, storeFails(ssmsim.Hang())},
	{"store resets", nothing, storeFails(ssmsim.Reset())},
	{"store's answer is cut", nothing, storeFails(ssmsim.Truncate())},
	{"store answers HTML", nothing, storeFails(ssmsim.Raw(200, "text/html", "<p>captive portal</p>"))},
	{"document is another's", nothing, stored(func(w *lab.World) error { w.StoreText(`{"user":"admin"}`); return nil })},
	{"document is gone", nothing, stored(func(w *lab.World) error { w.Store.Delete(w.ParameterPath()); return nil })},
	{"key of another leaf", nothing, stored(flawed(meshsim.MismatchedKey))},
	{"leaf has expired", nothing, stored(flawed(meshsim.Expired))},
	{"leaf is not valid yet", nothing, stored(flawed(meshsim.NotYetValid))},
	{"new leaf", nothing, stored(func(w *lab.World) error { _, err := w.StoreLeaf(0); return err })},
	{"new root, and the old one goes", nothing, rotate},

	{"no descriptors are left", dialling, func(_ context.Context, s *soak, i *injury) (func() error, error) {
		pid := s.rig.box.ExtensionPID(lab.ExtensionName)
		s.ledger.strike(i)
		before, err := limitDescriptors(pid, 1)
		return func() error { _, err := limitDescriptors(pid, before); return err }, err
	}},
	{"600 connections at once", dialling, members(600, func(conn *net.TCPConn, _ call, over <-chan struct{}) { <-over })},
	{"60 readers that never read", nothing, members(60, func(conn *net.TCPConn, c call, over <-chan struct{}) {
		c.kind, c.down = source, 2<<20
		_, _ = fmt.Fprintln(conn, c)
		<-over
	})},
	{"100 that half-close at once", nothing, members(100, func(conn *net.TCPConn, _ call, _ <-chan struct{}) {
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = conn.Read(make([]byte, 1))
	})},
}

func down(kind meshsim.ByteFaultKind, after int64) meshsim.FaultPlan {
	return meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: kind, After: after}}
}

type strike = func(context.Context, *soak, *injury) (func() error, error)

// soundGateway ends the plans of all connections, open ones too.
func (s *soak) soundGateway() error {
	s.rig.Mesh.Gateway.SetFaults(meshsim.FaultPlan{})
	s.rig.Mesh.Gateway.SetFaultsOpen(meshsim.FaultPlan{})
	return nil
}

// toCome strikes connections that are made from now on.
func toCome(p meshsim.FaultPlan) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		s.rig.Mesh.Gateway.SetFaults(p)
		return s.soundGateway, nil
	}
}

// toAll strikes those that are open, too.
func toAll(p meshsim.FaultPlan) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		s.rig.Mesh.Gateway.SetFaults(p)
		s.rig.Mesh.Gateway.SetFaultsOpen(p)
		return s.soundGateway, nil
	}
}

// dies ends all connections of a service.
func dies(how meshsim.End) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		i.service = []string{spared, dialled, banner, web}[s.rng.IntN(4)]
		s.ledger.strike(i)
		s.rig.Sidecar(i.service).Drop(how)
		return healthy, nil
	}
}

// idle ends connections on which nothing moves: the spares. A call that is handed one in that moment may be struck.
func idle(how meshsim.End) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		s.rig.Mesh.Gateway.Kill(-1, 200*time.Millisecond, how)
		return healthy, nil
	}
}

func healthy() error { return nil }

// victim picks a call that is being served, and makes the injury answer for it alone.
func (s *soak) victim(i *injury, kinds ...kind) (visit, error) {
	all := s.rig.site.visits(kinds...)
	if len(all) == 0 {
		return visit{}, errNobody
	}
	v := all[s.rng.IntN(len(all))]
	i.victims = map[uint64]bool{v.id: true}
	return v, nil
}

func toOne(p meshsim.FaultPlan) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		v, err := s.victim(i, echo, digest, answer, source, late, post)
		if err != nil {
			return nil, err
		}
		s.ledger.strike(i)
		if !s.rig.Mesh.Gateway.SetFaultsOf(v.peer, p) {
			return healthy, errNobody
		}
		return healthy, nil
	}
}

// stall holds up what is open for less than a function's patience. Nothing may come of it but a delay.
func stall(_ context.Context, s *soak, i *injury) (func() error, error) {
	s.ledger.strike(i)
	halt := meshsim.ByteFault{Kind: meshsim.StallBytes}
	for _, v := range s.rig.site.visits(echo, digest, answer, source, late, post) {
		s.rig.Mesh.Gateway.SetFaultsOf(v.peer, meshsim.FaultPlan{Up: halt, Down: halt})
	}
	return s.soundGateway, nil
}

// forget makes a path acknowledge nothing any more. What the function sends on it is given up after 10 s (R19); a function
// that had sent all and ended, and waits, is told after 60 s (R6). Then the path's port may be used again.
func forget(ctx context.Context, s *soak, i *injury) (func() error, error) {
	v, err := s.victim(i, echo, digest)
	if err != nil {
		return nil, err
	}
	s.ledger.strike(i)
	if !s.rig.Mesh.Gateway.ForgetOf(v.peer) {
		return healthy, errNobody
	}
	return func() error {
		for over := time.Now().Add(64 * time.Second); ctx.Err() == nil && time.Now().Before(over) && !s.ledger.felt(i); {
			wait(ctx, 50*time.Millisecond)
		}
		s.rig.Mesh.Gateway.Bury()
		return nil
	}, nil
}

func storeFails(f ssmsim.Fault) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		s.rig.Store.FailAll("", f)
		return func() error {
			s.rig.Store.Heal()
			s.rig.Store.Release()
			return nil
		}, nil
	}
}

// stored puts something else in place of the document, and in the end a new one.
func stored(change func(*lab.World) error) strike {
	return func(_ context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		return func() error { _, err := s.rig.StoreLeaf(0); return err }, change(s.rig.World)
	}
}

func flawed(flaw meshsim.Flaw) func(*lab.World) error {
	return func(w *lab.World) error {
		_, err := w.StoreLeafWith(meshsim.LeafOptions{Flaw: flaw})
		return err
	}
}

// rotate is what Consul and the registrator do when the root changes. The old root goes when the function has the new one.
func rotate(ctx context.Context, s *soak, i *injury) (func() error, error) {
	s.ledger.strike(i)
	if err := s.rig.RotateRoot(); err != nil {
		return healthy, err
	}
	leaf, err := s.rig.StoreLeaf(0)
	if err != nil {
		return healthy, err
	}
	for limit := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if s.rig.Sidecar(dialled).Stats().Clients[leaf.Serial()] > 0 {
			break
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			return healthy, errors.New("a new leaf is not taken up")
		}
	}
	s.rig.Mesh.CA.Prune()
	return func() error { _, err := s.rig.StoreLeaf(0); return err }, nil
}

// members makes n connections, each of which does something until it is over.
func members(n int, do func(conn *net.TCPConn, c call, over <-chan struct{})) strike {
	return func(ctx context.Context, s *soak, i *injury) (func() error, error) {
		s.ledger.strike(i)
		over := make(chan struct{})
		var all, connected sync.WaitGroup
		dialer := net.Dialer{Timeout: patience, KeepAlive: -1}
		for range n {
			c := call{id: s.rig.next.Add(1), service: dialled}
			connected.Add(1)
			all.Go(func() {
				conn, err := dialer.DialContext(ctx, "tcp", s.rig.Addr(dialled))
				connected.Done()
				if err != nil {
					return // past the limit
				}
				do(conn.(*net.TCPConn), c, over)
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			})
		}
		connected.Wait()
		return func() error {
			close(over)
			all.Wait()
			return nil
		}, nil
	}
}
