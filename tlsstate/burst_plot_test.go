// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

// burstLine is one burst in the picture: when its sandboxes had credentials, ascending.
type burstLine struct {
	name string
	ends []time.Duration
}

// The files that -update writes. The table stands between two marks in the text.
const (
	burstText    = "../docs/burst.md"
	burstPicture = "../docs/burst.svg"
	burstBegin   = "<!-- table -->\n"
	burstEnd     = "<!-- /table -->\n"
)

func writeBursts(t testing.TB, table string, lines []burstLine) {
	t.Helper()
	text, err := os.ReadFile(burstText)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), burstBegin)
	_, after, closed := strings.Cut(rest, burstEnd)
	if !ok || !closed {
		t.Fatalf("%s has no table to replace", burstText)
	}
	for name, content := range map[string][]byte{
		burstText:    []byte(before + burstBegin + table + burstEnd + after),
		burstPicture: drawBursts(lines),
	} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// drawBursts draws the share of sandboxes that have credentials over logarithmic time.
func drawBursts(lines []burstLine) []byte {
	const (
		left, top     = 48.0, 34.0
		width, height = 450.0, 260.0
		least, most   = 0.1, 300.0 // seconds
		points        = 200
	)
	x := func(s float64) float64 {
		return left + width*math.Log(min(max(s, least), most)/least)/math.Log(most/least)
	}
	y := func(share float64) float64 { return top + (1-share)*height }
	colours := []string{"#d1495b", "#e9a03b", "#4f7cac", "#2a9d8f", "#8e6bbf"}

	var p bytes.Buffer
	title := "Credentials after a burst of cold starts: share of sandboxes by time"
	fmt.Fprintf(&p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 334" width="760" height="334" role="img">`+"\n<title>%s</title>\n", title)
	p.WriteString("<style>text{font:12px system-ui,sans-serif;fill:#24292f}.a{stroke:#8c959f;opacity:.5}.l{fill:none;stroke-width:2}" +
		"@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>\n")
	text := func(atX, atY float64, anchor, s string) {
		fmt.Fprintf(&p, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", atX, atY, anchor, s)
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(&p, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="a"/>`+"\n", x1, y1, x2, y2)
	}
	text(8, 18, "start", title)
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		line(left, y(share), left+width, y(share))
		text(left-6, y(share)+4, "end", fmt.Sprintf("%.0f %%", 100*share))
	}
	for _, s := range []float64{0.1, 0.3, 1, 3, 10, 30, 100, 300} {
		line(x(s), top, x(s), top+height)
		text(x(s), top+height+18, "middle", fmt.Sprint(s))
	}
	text(left+width, top+height+34, "end", "s since the first start, logarithmic")
	for i, l := range lines {
		fmt.Fprintf(&p, `<polyline class="l" stroke="%s" points="`, colours[i%len(colours)])
		for q := range points + 1 {
			of := float64(q) / points
			fmt.Fprintf(&p, "%.1f,%.1f ", x(share(l.ends, of).Seconds()), y(of))
		}
		p.WriteString("\"/>\n")
		at := top + 14 + 18*float64(i)
		fmt.Fprintf(&p, `<rect x="%.1f" y="%.1f" width="12" height="3" fill="%s"/>`+"\n", left+width+16, at-5, colours[i%len(colours)])
		text(left+width+34, at, "start", l.name)
	}
	p.WriteString("</svg>\n")
	return p.Bytes()
}
