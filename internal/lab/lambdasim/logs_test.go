// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

func TestOutputIsCutIntoLines(t *testing.T) {
	t.Parallel()
	var sunk []string
	book := newLogBook(func(l Line) { sunk = append(sunk, l.Source+": "+l.Text) })
	w := &lineWriter{book: book, source: "ext", stderr: true}
	for _, part := range []string{"a\nb", "c", "\n\n", "end"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	w.flush()
	w.flush()
	var got []string
	for _, l := range book.all() {
		got = append(got, l.Source+": "+l.Text)
		if !l.Stderr || l.Time.IsZero() {
			t.Errorf("line %+v", l)
		}
	}
	if want := "ext: a|ext: bc|ext: |ext: end"; strings.Join(got, "|") != want || strings.Join(sunk, "|") != want {
		t.Errorf("got %q and %q, want %q", got, sunk, want)
	}
}

func TestALineWithoutEndIsCut(t *testing.T) {
	t.Parallel()
	book := newLogBook(nil)
	w := &lineWriter{book: book}
	for range maxLineBytes {
		_, _ = w.Write([]byte("x"))
	}
	if lines := book.all(); len(lines) != 1 || len(lines[0].Text) != maxLineBytes {
		t.Errorf("%d lines", len(lines))
	}
}

func TestTheLatestLinesAreKept(t *testing.T) {
	t.Parallel()
	book := newLogBook(nil)
	last := 5*maxLines + 7
	for i := range last + 1 {
		book.add(Line{Text: strconv.Itoa(i)})
	}
	lines := book.all()
	if len(lines) < maxLines || len(lines) > 2*maxLines || lines[len(lines)-1].Text != strconv.Itoa(last) {
		t.Fatalf("%d lines, the last is %v", len(lines), lines[len(lines)-1].Text)
	}
	if _, err := book.wait(t.Context(), func(l Line) bool { return l.Text == strconv.Itoa(last) }); err != nil {
		t.Error(err)
	}
}

func TestWaitLogFindsLinesOfThePastAndOfTheFuture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book := newLogBook(nil)
		book.add(Line{Text: "past"})
		is := func(text string) func(Line) bool { return func(l Line) bool { return l.Text == text } }
		if _, err := book.wait(t.Context(), is("past")); err != nil {
			t.Error(err)
		}
		found := make(chan error, 1)
		go func() {
			_, err := book.wait(t.Context(), is("future"))
			found <- err
		}()
		synctest.Wait()
		book.add(Line{Text: "something else"})
		synctest.Wait()
		book.add(Line{Text: "future"})
		if err := <-found; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		if _, err := book.wait(ctx, is("never")); err == nil {
			t.Error("found what was never written")
		}
	})
}
