// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// WriteMarkdown writes the report. plots is the folder of the plots as the report's reader sees it, "." for the
// report's own; empty: it shows none.
func (r *Result) WriteMarkdown(w io.Writer, plots string) error {
	var b bytes.Buffer
	r.head(&b)
	r.budgetTable(&b)
	if plots != "" {
		for _, p := range r.plots() {
			fmt.Fprintf(&b, "![%s](%s)\n\n", p.title, path.Join(plots, p.file))
		}
	}
	b.WriteString("## All figures\n\n")
	fmt.Fprintf(&b, "A figure is the median of the rounds (least – most); a p99 is that of all rounds' latencies together. × is the median of\n"+
		"the ratios to the %s in the same round. CPU is that of the proxy's process.\n\n", r.reference())
	fmt.Fprintf(&b, "%q and %q are settings (`CONSUL_EXTENSION_WARM_CONNECTIONS=0`, and `CONSUL_EXTENSION_TLS_RESUMPTION=false` with it);\n"+
		"%q is [bench/baseline](bench/baseline/main.go); %q is no proxy at all, %q a proxy without TLS: floors, not rivals.\n\n",
		OursNoSpare, OursFull, Baseline, Direct, Splice)
	for _, row := range rows {
		r.table(&b, row)
	}
	r.programs(&b)
	list(&b, "Not measured here", r.Skipped)
	list(&b, "Failed", r.Failures)
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("bench: writing the report: %w", err)
	}
	return nil
}

func (r *Result) head(b *bytes.Buffer) {
	b.WriteString("# Benchmarks\n\n")
	if r.Settings.Quick {
		b.WriteString("**A quick run: it shows that everything works, its figures say little.**\n\n")
	}
	fmt.Fprintf(b, "Whole proxy processes, measured from outside, side by side in one run. How, and what this cannot see, is in\n"+
		"[bench/doc.go](bench/doc.go). Absolute times are this machine's: compare the columns of one run.\n\n")
	m := r.Machine
	fmt.Fprintf(b, "| | |\n|---|---|\n| command | `%s` |\n| date | %s, took %s |\n| version | %s |\n| machine | %s, %d cores, %s, %s |\n| built with | %s |\n| rounds | %d, %d MiB for each bulk figure of a round |\n",
		cmp.Or(r.Command, "consul-lambda bench"), r.Date.Format("2006-01-02 15:04 MST"), r.Took.Round(time.Second), r.Version,
		m.CPU, m.Cores, m.OS, m.Kernel, m.Go, r.Settings.Rounds, r.Settings.BulkBytes>>20)
	for _, s := range r.Systems {
		if s.Version != "" {
			fmt.Fprintf(b, "| %s | %s |\n", s.Name, s.Version)
		}
	}
	b.WriteString("\n")
	b.WriteString("The RTT is added to what a connection carries, not to its TCP handshake: on a real network every system that dials when\n" +
		"the function does takes one round trip more than is shown, one that has dialled before does not.\n\n")
}

func (r *Result) budgetTable(b *bytes.Buffer) {
	b.WriteString("## Budgets\n\n")
	fmt.Fprintf(b, "Factors refer to the %s; \"peers\" are the best of HAProxy, nginx and stunnel, as far as they took part.\n", r.reference())
	b.WriteString("Allocations are not measured here: tests hold them.\n\n")
	b.WriteString("The last column says in how many rounds \"must\" was held by the figures of that round alone.\n\n")
	b.WriteString("| what | must | aim | measured | verdict | rounds |\n|---|---:|---:|---:|---|---:|\n")
	for _, j := range r.judge() {
		held := "–"
		if j.rounds > 0 {
			held = fmt.Sprintf("%d of %d", j.held, j.rounds)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", j.what, describeLimit(j, j.budget.must, j.must),
			describeLimit(j, j.budget.aim, j.aim), number(j.measured, j.unit), j.verdict, held)
	}
	b.WriteString("\n")
}

// describeLimit shows where a limit comes from and what it is in this run.
func describeLimit(j judgement, l limit, resolved float64) string {
	sign := "≤ "
	if j.atLeast {
		sign = "≥ "
	}
	var from []string
	for _, f := range []struct {
		factor float64
		of     string
	}{{l.ofRef, ""}, {l.ofPeer, " peers"}, {l.ofNginx, " nginx"}} {
		if f.factor != 0 {
			from = append(from, strconv.FormatFloat(f.factor, 'f', -1, 64)+" ×"+f.of)
		}
	}
	if len(from) == 0 {
		return sign + number(l.absolute, j.unit)
	}
	text := sign + strings.Join(from, ", ")
	if !math.IsNaN(resolved) {
		text += " = " + number(resolved, j.unit)
	}
	return text
}

// table writes all figures of a row, one line for each system.
func (r *Result) table(b *bytes.Buffer, row *row) {
	var lines bytes.Buffer
	for _, s := range r.Systems {
		var cells []string
		answered := false
		for _, metric := range row.metrics {
			c, ok := r.cell(row.name, s.Name, metric)
			if !ok {
				cells = append(cells, "–")
				continue
			}
			answered = true
			text := "**" + number(c.Value, c.Unit) + "**"
			if n := len(c.Rounds); n > 1 {
				least, most := spread(c.Rounds)
				text += " (" + number(least, "") + " – " + number(most, "") + ")"
			}
			if ref, ok := r.cell(row.name, r.reference(), metric); ok && s.Name != r.reference() {
				if q := ratio(c.Rounds, ref.Rounds); !math.IsNaN(q) && !math.IsInf(q, 0) { // nothing is a multiple of zero
					text += " ×" + strconv.FormatFloat(q, 'f', 2, 64)
				}
			}
			cells = append(cells, text)
		}
		if answered {
			fmt.Fprintf(&lines, "| %s | %s |\n", s.Name, strings.Join(cells, " | "))
		}
	}
	if lines.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "### %s\n\n`--only %s`\n\n| | %s |\n|---|%s\n%s\n", row.title, row.name,
		strings.Join(row.metrics, " | "), strings.Repeat("---:|", len(row.metrics)), lines.String())
}

func spread(values []float64) (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	return least, most
}

func (r *Result) programs(b *bytes.Buffer) {
	var lines bytes.Buffer
	for _, s := range r.Systems {
		if c, ok := r.cell(programRow, s.Name, programSize); ok {
			fmt.Fprintf(&lines, "| %s | **%s** |\n", s.Name, number(c.Value, c.Unit))
		}
	}
	if lines.Len() > 0 {
		fmt.Fprintf(b, "### Size of the program\n\n| | size |\n|---|---:|\n%s\n", lines.String())
	}
}

func list(b *bytes.Buffer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", title)
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", strings.ReplaceAll(line, "\n", " "))
	}
	b.WriteString("\n")
}

// number writes three digits that matter, and a unit if there is one.
func number(v float64, unit string) string {
	if math.IsNaN(v) {
		return "–"
	}
	digits := 0
	if a := math.Abs(v); a != 0 && a < 100 {
		digits = max(0, 2-int(math.Floor(math.Log10(a))))
	}
	text := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	if unit != "" {
		text += " " + unit
	}
	return text
}
