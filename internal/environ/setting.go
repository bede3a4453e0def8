// SPDX-License-Identifier: MPL-2.0

package environ

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Setting is one variable that has a default.
type Setting[T any] struct {
	Name     string
	Default  T      // what is used where the variable is not set, or wrong
	Accepted string // for people
	Parse    func(string) (T, error)
	Lenient  bool // the variable is not ours alone: what is wrong with it is a warning
}

// From reads the setting.
func (s Setting[T]) From(r *Reader) T {
	v := r.Value(s.Name)
	if v == "" {
		return s.Default
	}
	value, err := s.Parse(v)
	switch {
	case err == nil:
		return value
	case s.Lenient:
		r.warn(Wrong{s.Name, v, err, s.Accepted}.Error() + "; the default is used")
	default:
		r.Refuse(Wrong{s.Name, v, err, s.Accepted})
	}
	return s.Default
}

// Bool is a variable that is true or false.
func Bool(name string, fallback bool) Setting[bool] {
	return Setting[bool]{Name: name, Default: fallback, Accepted: "true or false", Parse: parseBool}
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, errors.New("is not true or false")
	}
	return b, nil
}

// Range is the whole numbers that a setting takes, both ends included.
type Range struct{ Low, High int }

// Int is a variable that is a whole number.
func Int(name string, fallback int, within Range) Setting[int] {
	return Setting[int]{
		Name: name, Default: fallback, Parse: within.Parse,
		Accepted: fmt.Sprintf("a whole number from %d to %d", within.Low, within.High),
	}
}

// Parse reads a whole number in digits.
func (r Range) Parse(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, errors.New("is not a whole number")
	}
	if err != nil || int(n) < r.Low || int(n) > r.High {
		return 0, errors.New("is out of range")
	}
	return int(n), nil
}

// Word is a variable that is one of a few words; accepted lists them for people.
func Word[T any](name string, fallback T, accepted string, words map[string]T) Setting[T] {
	return Setting[T]{Name: name, Default: fallback, Accepted: accepted, Parse: func(s string) (T, error) {
		value, ok := words[strings.ToLower(s)]
		if !ok {
			return value, errors.New("is not one of them")
		}
		return value, nil
	}}
}

// Span is the durations that a setting takes: from Min to Max, if Max is not 0, and 0 itself if Off.
type Span struct {
	Min, Max time.Duration
	Off      bool
}

// Duration is a variable that is a Go duration.
func Duration(name string, fallback time.Duration, within Span) Setting[time.Duration] {
	return Setting[time.Duration]{Name: name, Default: fallback, Accepted: within.accepted(), Parse: within.parse}
}

func (s Span) accepted() string {
	text := "a Go duration of at least " + s.Min.String()
	if s.Max != 0 {
		text += " and at most " + s.Max.String()
	}
	text += " such as 90s"
	if s.Off {
		text += ", or 0 for none"
	}
	return text
}

func (s Span) parse(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("is not a duration")
	case d == 0 && s.Off:
		return 0, nil
	case d < s.Min || s.Max != 0 && d > s.Max:
		return 0, errors.New("is out of range")
	}
	return d, nil
}
