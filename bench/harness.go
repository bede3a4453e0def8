// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/version"
)

// Config says what to measure. Extension and Baseline are needed; the zero value of the rest is a full run.
type Config struct {
	Extension string // our binary
	Baseline  string // the binary of bench/baseline
	Peers     []Peer // other extensions
	Systems   []string
	Only      []string // names of rows, or their beginnings; empty: all
	Rounds    int      // 0: 5, or 1 if Quick
	BulkBytes int64    // for each figure of a round; 0: 512 MiB, or 32 MiB if Quick
	Quick     bool     // a minute at most, to see that everything works: its figures say little
	Command   string   // for the report
	Progress  io.Writer
}

// Peer is another extension that keeps to the environment contract. One of the name [Predecessor] is what ratios refer to.
type Peer struct{ Name, Path string }

// harness is a run under way.
type harness struct {
	cfg       Config
	amounts   amounts
	dir       string // of this run; removed at its end
	files     uint64 // descriptors that a process may have
	pki       *pki
	store     *ssmsim.Server
	systems   []*system
	progress  progress
	collector collector
	instances map[string]*instance // of this round
	broken    map[string]bool      // what could not be started in this round
	gcPercent int                  // of this process before the run
}

// storeLatency is Parameter Store's, in every read.
const storeLatency = 15 * time.Millisecond

// The files that peers read their credentials from.
const (
	rootFile = "root"
	certFile = "cert"
	keyFile  = "key"
	pairFile = "pair" // certificate, then key
)

func (h *harness) file(name string) string { return filepath.Join(h.dir, name) }

// Run measures. It starts processes and ends them; it leaves nothing behind, also when ctx ends it early. What cannot be
// measured is in the result's Skipped and Failures: an error means that there is no result.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if !supported {
		return nil, errUnsupported
	}
	h, err := newHarness(cfg)
	if err != nil {
		return nil, err
	}
	defer h.close()
	if err := h.run(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return h.collector.result, nil
}

func newHarness(cfg Config) (*harness, error) {
	h := &harness{cfg: cfg, amounts: full, gcPercent: 100, instances: make(map[string]*instance), broken: make(map[string]bool)}
	if cfg.Quick {
		h.amounts = quick
	}
	if cfg.Rounds > 0 {
		h.amounts.rounds = cfg.Rounds
	}
	if cfg.BulkBytes > 0 {
		h.amounts.bulk = cfg.BulkBytes
	}
	if h.cfg.Progress == nil {
		h.cfg.Progress = io.Discard
	}
	var err error
	if h.systems, err = cfg.systems(); err != nil {
		return nil, err
	}
	if _, err := cfg.rows(); err != nil {
		return nil, err
	}
	if h.pki, err = newPKI(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if h.dir, err = os.MkdirTemp("", "consul-lambda-bench-"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if h.store, err = ssmsim.Start(ssmsim.Config{}); err != nil {
		_ = os.RemoveAll(h.dir)
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := h.prepare(); err != nil {
		h.close()
		return nil, fmt.Errorf("bench: %w", err)
	}
	return h, nil
}

// prepare puts the credentials where each system reads them, and makes this process fit for its part.
func (h *harness) prepare() error {
	doc, err := h.pki.document()
	if err != nil {
		return err
	}
	h.store.Put(dataPrefix+"/default/default/"+function, string(doc))
	h.store.SetLatency("", storeLatency)
	for name, content := range map[string][]byte{
		rootFile: h.pki.rootPEM, certFile: h.pki.clientPEM, keyFile: h.pki.clientKey,
		pairFile: slices.Concat(h.pki.clientPEM, h.pki.clientKey),
	} {
		if err := os.WriteFile(h.file(name), content, 0o600); err != nil {
			return err
		}
	}
	h.files = raiseFiles(1 << 16)
	h.gcPercent = debug.SetGCPercent(400) // the client and the server shall not pause often
	h.collector = collector{pools: make(map[[2]string]*pool), result: &Result{
		Command:  h.cfg.Command,
		Date:     time.Now().UTC().Truncate(time.Second),
		Version:  version.String(),
		Machine:  machine(),
		Settings: Settings{Quick: h.cfg.Quick, Rounds: h.amounts.rounds, BulkBytes: h.amounts.bulk},
	}}
	return nil
}

func (h *harness) close() {
	h.stopAll()
	h.store.Close()
	debug.SetGCPercent(h.gcPercent)
	_ = os.RemoveAll(h.dir)
}

// run goes through all rounds.
func (h *harness) run(ctx context.Context) error {
	rows, err := h.cfg.rows()
	if err != nil {
		return err
	}
	for _, sys := range h.systems {
		info := describe(ctx, sys)
		h.collector.result.Systems = append(h.collector.result.Systems, info)
		if sys.kind == extension && !sys.variant {
			h.collector.add(programRow, sys.name, programSize, "MB", float64(info.Bytes)/megabyte)
		}
	}
	h.progress = progress{out: h.cfg.Progress, began: time.Now()}
	h.collector.result.Skipped = h.absent()
	for _, r := range rows {
		if r.unable != nil {
			if err := r.unable(); err != nil {
				h.collector.result.Skipped = append(h.collector.result.Skipped, fmt.Sprintf("%s: %v", r.name, err))
			}
		}
		h.progress.planned += time.Duration(min(r.maxRounds(), h.amounts.rounds)) * r.cost(&h.amounts, len(r.of(h.systems)))
	}
	h.progress.note("%d systems, %d rows, %d rounds, about %s", len(h.systems), len(rows), h.amounts.rounds, h.progress.planned.Round(time.Second))
	for round := range h.amounts.rounds {
		for _, r := range rows {
			systems := r.of(h.systems)
			if round >= r.maxRounds() || len(systems) == 0 {
				continue
			}
			until := h.progress.done + r.cost(&h.amounts, len(systems))
			// Each round begins with another system.
			systems = slices.Concat(systems[round%len(systems):], systems[:round%len(systems)])
			if r.unable == nil || r.unable() == nil {
				r.run(ctx, h, &job{row: r, round: round, systems: systems})
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			h.progress.done = until
		}
		h.stopAll()
	}
	h.collector.finish()
	h.collector.result.Took = time.Since(h.progress.began).Round(time.Second)
	h.progress.note("took %s", h.collector.result.Took)
	return nil
}

// absent tells which systems a full comparison would have.
func (h *harness) absent() []string {
	if len(h.cfg.Systems) > 0 {
		return nil
	}
	var lines []string
	for _, name := range peerNames {
		if !h.collector.result.has(name) {
			lines = append(lines, name+": not installed; make bench-peers does that on Debian")
		}
	}
	if !h.collector.result.has(Predecessor) {
		lines = append(lines, Predecessor+": give its program with --peer "+Predecessor+"=PATH; factors refer to the baseline until then")
	}
	return lines
}

// instance returns this round's instance of a system; the first who asks starts it.
func (h *harness) instance(ctx context.Context, sys *system) (*instance, error) {
	if in := h.instances[sys.name]; in != nil {
		return in, nil
	}
	if h.broken[sys.name] {
		return nil, errBroken // it was told once
	}
	in, err := h.launch(ctx, sys)
	if err != nil {
		h.broken[sys.name] = true
		return nil, err
	}
	h.instances[sys.name] = in
	return in, nil
}

func (h *harness) stopAll() {
	for name, in := range h.instances {
		in.stop()
		delete(h.instances, name)
	}
	clear(h.broken)
}

// fail notes what went wrong in a row, unless that is the end of the run. The run goes on.
func (h *harness) fail(ctx context.Context, j *job, sys *system, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, errBroken) { // when ctx ends, so do the processes
		return
	}
	line := fmt.Sprintf("%s, %s, round %d: %v", j.row.name, sys.name, j.round+1, err)
	h.collector.result.Failures = append(h.collector.result.Failures, line)
	h.progress.note("FAILED: %s", line)
}

// describe asks a program for its version.
func describe(ctx context.Context, sys *system) SystemInfo {
	info := SystemInfo{Name: sys.name}
	if st, err := os.Stat(sys.path); err == nil {
		info.Bytes = st.Size()
	}
	if sys.kind != peer {
		return info
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	flag := "-v"
	if sys.name == "stunnel" {
		flag = "-version"
	}
	out, _ := exec.CommandContext(ctx, sys.path, flag).CombinedOutput() // one that does not say has no version
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.Contains(strings.ToLower(line), sys.name) {
			info.Version = line
			break
		}
	}
	return info
}

// systems returns what is to be measured, in the order of the tables.
func (c *Config) systems() ([]*system, error) {
	all := []*system{
		{name: Ours, kind: extension, path: c.Extension},
		{name: OursNoSpare, kind: extension, path: c.Extension, variant: true, env: []string{
			"CONSUL_EXTENSION_WARM_CONNECTIONS=0",
		}},
		{name: OursFull, kind: extension, path: c.Extension, variant: true, env: []string{
			"CONSUL_EXTENSION_WARM_CONNECTIONS=0", "CONSUL_EXTENSION_TLS_RESUMPTION=false",
		}},
		{name: Baseline, kind: extension, path: c.Baseline},
	}
	for _, p := range c.Peers {
		all = append(all, &system{name: p.Name, kind: extension, path: p.Path})
	}
	all = append(all, installed()...)
	all = append(all,
		&system{name: Direct, kind: floor},
		&system{name: Splice, kind: floor, path: c.Baseline, config: configureSplice})

	var chosen []*system
	var errs []error
	var names []string
	for _, sys := range all {
		if slices.Contains(names, sys.name) {
			errs = append(errs, fmt.Errorf("two systems are called %q", sys.name))
		}
		names = append(names, sys.name)
		if len(c.Systems) == 0 || slices.Contains(c.Systems, sys.name) {
			chosen = append(chosen, sys)
		}
	}
	for _, name := range c.Systems {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("no system is called %q; there are: %s", name, strings.Join(names, "; ")))
		}
	}
	for _, sys := range chosen {
		if sys.name == Direct {
			continue
		}
		path, err := filepath.Abs(sys.path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil || sys.path == "" {
			errs = append(errs, fmt.Errorf("%s: no program at %q; make bench builds ours and the baseline", sys.name, sys.path))
		}
		sys.path = path
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("bench: %w", errors.Join(errs...))
	}
	return chosen, nil
}
