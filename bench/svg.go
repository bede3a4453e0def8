// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// plot is a picture for the report.
type plot struct {
	file, title string
	draw        func() []byte
}

// The sizes of a picture, in its own units.
const (
	plotWidth  = 760
	plotLeft   = 210 // room for names of bars
	plotRight  = 90  // room for figures
	barHeight  = 18
	barGap     = 8
	curveHigh  = 260
	curveLeft  = 48
	curveRight = 225 // room for names of lines
)

// plots returns the pictures for which there are figures.
func (r *Result) plots() []plot {
	var plots []plot
	for _, p := range []struct{ file, row, title string }{
		{"connect-0ms.svg", "connect-0ms", "New connection to first answer, 0 RTT: share of connections by latency"},
		{"connect-20ms.svg", "connect-20ms", "New connection to first answer, 20 ms RTT: share of connections by latency"},
	} {
		if c := r.curves(p.row); len(c) > 0 {
			plots = append(plots, plot{p.file, p.title, func() []byte { return drawCurves(p.title, c, r.colour) }})
		}
	}
	for _, p := range []struct{ file, row, metric, title string }{
		{"cpu-down.svg", "down-1", cpuPerGB, "Bulk to the function: CPU seconds per GB"},
		{"cpu-up.svg", "up-1", cpuPerGB, "Bulk from the function: CPU seconds per GB"},
		{"memory-idle.svg", "memory", perIdle, "Memory per idle connection, KiB"},
	} {
		var bars []bar
		for _, s := range r.Systems {
			if c, ok := r.cell(p.row, s.Name, p.metric); ok {
				least, most := spread(c.Rounds)
				bars = append(bars, bar{s.Name, r.colour(s.Name), c.Value, least, most})
			}
		}
		if len(bars) > 0 {
			plots = append(plots, plot{p.file, p.title, func() []byte { return drawBars(p.title, bars) }})
		}
	}
	return plots
}

func (r *Result) curves(row string) []Curve {
	var found []Curve
	for _, c := range r.Curves {
		if c.Row == row && len(c.Quantiles) > 1 {
			found = append(found, c)
		}
	}
	return found
}

// WritePlots writes the report's pictures to a folder, which it makes.
func (r *Result) WritePlots(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bench: writing plots: %w", err)
	}
	for _, p := range r.plots() {
		if err := os.WriteFile(filepath.Join(dir, p.file), p.draw(), 0o644); err != nil { //nolint:gosec // results are for everybody
			return fmt.Errorf("bench: writing plots: %w", err)
		}
	}
	return nil
}

// Colours that can be told apart by most people, on white and on black; the text follows the reader's preference.
var colours = []string{"#d1495b", "#e9a03b", "#c06c84", "#4f7cac", "#2a9d8f", "#8e6bbf", "#6b8e23", "#5f9ea0", "#a0785a", "#808080"}

// colour is a system's in all pictures.
func (r *Result) colour(system string) string {
	i := slices.IndexFunc(r.Systems, func(s SystemInfo) bool { return s.Name == system })
	return colours[max(0, i)%len(colours)]
}

// picture is an SVG under construction.
type picture struct{ bytes.Buffer }

func newPicture(title string, width, height int) *picture {
	p := new(picture)
	_, _ = fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	_, _ = fmt.Fprintf(p, "<title>%s</title>\n", html.EscapeString(title))
	p.WriteString("<style>text{font:12px system-ui,sans-serif;fill:#24292f}.h{font-weight:600;font-size:13px}.a{stroke:#8c959f;stroke-width:1;opacity:.5}" +
		".l{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>\n")
	p.text(8, 18, "h", "start", title)
	return p
}

func (p *picture) text(x, y float64, class, anchor, s string) {
	_, _ = fmt.Fprintf(p, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(s))
}

func (p *picture) line(x1, y1, x2, y2 float64) {
	_, _ = fmt.Fprintf(p, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="a"/>`+"\n", x1, y1, x2, y2)
}

func (p *picture) end() []byte {
	p.WriteString("</svg>\n")
	return p.Bytes()
}

// bar is one figure with its spread over the rounds.
type bar struct {
	name, colour       string
	value, least, most float64
}

// drawBars draws one bar below the other, from zero, with the spread as a thin line.
func drawBars(title string, bars []bar) []byte {
	top := 34
	p := newPicture(title, plotWidth, top+len(bars)*(barHeight+barGap)+barGap)
	longest := 0.0
	for _, b := range bars {
		longest = max(longest, b.value, b.most)
	}
	if longest <= 0 {
		longest = 1
	}
	scale := float64(plotWidth-plotLeft-plotRight) / longest
	for i, b := range bars {
		y := float64(top + i*(barHeight+barGap))
		middle := y + barHeight/2
		p.text(plotLeft-8, middle+4, "", "end", b.name)
		_, _ = fmt.Fprintf(p, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", plotLeft, y, max(0, b.value)*scale, barHeight, b.colour)
		p.line(plotLeft+max(0, b.least)*scale, middle, plotLeft+max(0, b.most)*scale, middle)
		p.text(plotLeft+max(b.value, b.most, 0)*scale+6, middle+4, "", "start", number(b.value, ""))
	}
	return p.end()
}

// drawCurves draws cumulative distributions over a logarithmic axis of time, up to the slowest p99.
func drawCurves(title string, curves []Curve, colourOf func(system string) string) []byte {
	const top, bottom = 34, 40
	height := top + curveHigh + bottom
	p := newPicture(title, plotWidth, height)
	least, most := math.Inf(1), 0.0
	for _, c := range curves {
		least = min(least, c.Quantiles[0])
		most = max(most, c.Quantiles[len(c.Quantiles)-2])
	}
	least = max(least, 1e-4)
	most = max(most, least*1.1)
	width := float64(plotWidth - curveLeft - curveRight)
	x := func(ms float64) float64 {
		share := math.Log(min(max(ms, least), most)/least) / math.Log(most/least)
		return curveLeft + share*width
	}
	y := func(share float64) float64 { return top + (1-share)*curveHigh }
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		p.line(curveLeft, y(share), curveLeft+width, y(share))
		p.text(curveLeft-6, y(share)+4, "", "end", fmt.Sprintf("%.0f %%", 100*share))
	}
	for _, ms := range ticks(least, most) {
		p.line(x(ms), top, x(ms), top+curveHigh)
		p.text(x(ms), top+curveHigh+18, "", "middle", strconv.FormatFloat(ms, 'g', 3, 64))
	}
	p.text(curveLeft+width, float64(height)-6, "", "end", "ms, logarithmic")
	for i, c := range curves {
		colour := colourOf(c.System)
		_, _ = fmt.Fprintf(p, `<polyline class="l" stroke="%s" points="`, colour)
		for q, ms := range c.Quantiles[:len(c.Quantiles)-1] {
			_, _ = fmt.Fprintf(p, "%.1f,%.1f ", x(ms), y(float64(q)/float64(len(c.Quantiles)-1)))
		}
		p.WriteString(`"/>` + "\n")
		at := float64(top + 14 + 18*i)
		_, _ = fmt.Fprintf(p, `<rect x="%.1f" y="%.1f" width="12" height="3" fill="%s"/>`+"\n", curveLeft+width+16, at-5, colour)
		p.text(curveLeft+width+34, at, "", "start", c.System)
	}
	return p.end()
}

// ticks are the round numbers 1, 2 and 5 of each decade between two values.
func ticks(least, most float64) []float64 {
	var found []float64
	for decade := math.Floor(math.Log10(least)); decade <= math.Log10(most); decade++ {
		for _, step := range []float64{1, 2, 5} {
			if v := step * math.Pow(10, decade); v >= least && v <= most {
				found = append(found, v)
			}
		}
	}
	return found
}
