// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/paramstore"
)

// store reads the document.
func store(ctx context.Context, p *patient) []Result {
	f := finding{name: "store"}
	if p.env == nil {
		return one(f.skip("what to read is not known"))
	}
	s, err := paramstore.New(paramstore.Config{Getenv: p.getenv})
	if err != nil {
		remedy := "correct the variable that is named, or take it away"
		if cmp.Or(p.getenv("AWS_REGION"), p.getenv("AWS_DEFAULT_REGION")) == "" {
			remedy = "Lambda sets the region; elsewhere use that of a profile, or set the variable"
		}
		return one(f.fail(remedy, "%v", err))
	}
	defer s.Close()
	began := time.Now()
	text, err := s.Reader(p.env.ParameterPath).Fetch(ctx)
	if err != nil {
		detail, remedy := explainStore(err)
		if p.cfg.Borrowed {
			detail += " (asked with your credentials, not with the function's role)"
		}
		return one(f.fail(remedy, "%s", detail))
	}
	p.text = text
	detail := fmt.Sprintf("%s: %d bytes in %s", p.env.ParameterPath, len(text), took(began))
	if p.cfg.Borrowed {
		detail += ", with your credentials: what the function's role may do cannot be told from here"
	}
	return one(f.ok("%s", detail))
}

// explainStore takes an error of paramstore apart: what happened, and what to do.
func explainStore(err error) (detail, remedy string) {
	var e *paramstore.Error
	if !errors.As(err, &e) {
		return err.Error(), ""
	}
	switch { // of what has no remedy of its own
	case errors.Is(err, paramstore.ErrTimeout):
		remedy = "is the SSM endpoint of this subnet healthy, and does the security group allow port 443?"
	case !errors.Is(err, context.Canceled):
		remedy = "if AWS says so of itself, try again later; else see what it says of the request"
	}
	return e.Detail(), cmp.Or(e.Remedy, remedy)
}

const (
	// skewSeen is what is worth a word: half of the minute by which Consul dates leaves back (agent/connect/ca, effectiveNow), so
	// that a new one is valid on a clock that is behind.
	skewSeen = 30 * time.Second
	// skewLimit is how old a signature may be for AWS (IAM User Guide, "Elements of an AWS API request signature").
	skewLimit = 5 * time.Minute
	// dateTimeout bounds the request for the time: a small one, to who has answered just now.
	dateTimeout = 2 * time.Second
)

// clocks compares this machine's clock with the Date of the store's answers, which says whole seconds.
func clocks(ctx context.Context, p *patient) []Result {
	f := finding{name: "clock"}
	if p.env == nil {
		return one(f.skip("whose clock to compare with is not known"))
	}
	skew, err := p.skew(ctx)
	remedy := "set the clock: certificates, and signatures for AWS, are judged by it"
	switch ahead := skew.Round(time.Second); {
	case err != nil:
		return one(f.skip("the store's clock could not be read: %v", err))
	case skew.Abs() >= skewLimit:
		return one(f.fail(remedy, "%s", apart(ahead)))
	case skew.Abs() >= skewSeen:
		return one(f.warn(remedy, "%s", apart(ahead)))
	}
	return one(f.ok("within %v of the store's", max(time.Second, skew.Abs().Round(time.Second))))
}

func apart(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("%v behind the store's", -ahead)
	}
	return fmt.Sprintf("%v ahead of the store's", ahead)
}

// skew is how far this clock is ahead of the store's. The request carries no credentials, and its answer is an error; all that is
// read of it is its Date.
func (p *patient) skew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, dateTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, p.endpoint(), nil)
	if err != nil {
		return 0, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	began := time.Now()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return 0, errors.New("its answer has no date")
	}
	middle := began.Add(time.Since(began) / 2)
	return middle.Sub(date.Add(time.Second / 2)), nil
}

// endpoint is where the store is, as package paramstore finds it in the common cases: any other is AWS's too, with the same time.
func (p *patient) endpoint() string {
	region := cmp.Or(p.getenv("AWS_REGION"), p.getenv("AWS_DEFAULT_REGION"))
	suffix := ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		suffix += ".cn"
	}
	return cmp.Or(p.getenv("AWS_ENDPOINT_URL_SSM"), p.getenv("AWS_ENDPOINT_URL"), "https://ssm."+region+suffix)
}

// took is the time since then, for people.
func took(began time.Time) time.Duration {
	d := time.Since(began)
	if d < time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

// count is "1 upstream", "2 upstreams".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
