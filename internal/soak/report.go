// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is what a run found out.
type report struct {
	seed       uint64
	began      time.Time
	length     time.Duration
	quiet      time.Duration // in which nothing was broken
	windows    int           // in a row, of such time
	calls      int
	quietCalls int // that began and ended in such time
	perKind    map[kind]int
	bytes      int64
	injected   map[string]int
	answered   map[string]int // calls that failed, by the fault that answers for them
	signals    map[signal]int
	freezes    int
	frozen     time.Duration
	start      usage
	most       usage
	end        usage
	violations []string // what must not be
	violated   int
}

// write writes the report as Markdown.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	faults, failed := 0, 0
	for _, n := range r.injected {
		faults += n
	}
	for _, n := range r.answered {
		failed += n
	}
	kinds := make([]string, 0, len(r.perKind))
	for _, k := range slices.Sorted(maps.Keys(r.perKind)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, r.perKind[k]))
	}
	b.WriteString("| soak | |\n|---|---|\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("when, for how long, seed", "%s, %s, %d", r.began.UTC().Format(time.DateOnly), r.length.Round(time.Second), r.seed)
	row("time in which nothing was broken", "%.0f %%, in %d windows", 100*r.quiet.Seconds()/r.length.Seconds(), r.windows)
	row("calls", "%d (%s)", r.calls, strings.Join(kinds, ", "))
	row("bytes received and compared", "%d MiB", r.bytes>>20)
	row("faults injected", "%d, of %d kinds", faults, len(r.injected))
	row("freezes", "%d, %s in all", r.freezes, r.frozen.Round(time.Second))
	row("calls that failed, each by one fault, with a reset", "%d", failed)
	row("calls while nothing was broken", "%d", r.quietCalls)
	row("wrong bytes; cut streams that looked complete; hung", "%d; %d; %d", r.signals[wrong], r.signals[short], r.signals[hung])
	row("violations of any kind", "%d", r.violated)
	row("memory (PSS) at the start, at most, in the end", "%.1f, %.1f, %.1f MiB", mib(r.start.memory), mib(r.most.memory), mib(r.end.memory))
	row("descriptors", "%d, %d, %d", r.start.descriptors, r.most.descriptors, r.end.descriptors)
	row("threads", "%d, %d, %d", r.start.threads, r.most.threads, r.end.threads)
	b.WriteString("\n| fault | injected | calls that it failed | may it fail any |\n|---|---|---|---|\n")
	for _, t := range troubles {
		may := map[harm]string{nothing: "no", dialling: "those being dialled", dialling | streams: "yes", picked: "that one"}[t.harms]
		fmt.Fprintf(&b, "| %s | %d | %d | %s |\n", t.kind, r.injected[t.kind], r.answered[t.kind], may)
	}
	fmt.Fprintf(&b, "| freeze | %d | %d | those that were being dialled |\n", r.freezes, r.answered["freeze"])
	for _, v := range r.violations {
		fmt.Fprintf(&b, "\n- %s\n", v)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
