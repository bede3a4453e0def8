// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

const secret = "PRIVATE-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// checkError looks at what every error must be: of the kind, one line, naming
// operation, parameter and remedy, without the value (R18).
func checkError(t testing.TB, err error, kind kind, sentinel error, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	if e.kind != kind {
		t.Errorf("kind is %q, want %q: %v", e.kind, kind, err)
	}
	for _, s := range []error{ErrNotFound, ErrThrottled, ErrDenied, ErrInvalidKey, ErrCredentials, ErrTimeout, ErrUnreachable, ErrMalformed, ErrTooLarge, ErrTier} {
		if errors.Is(err, s) != (s == sentinel) {
			t.Errorf("errors.Is(%q) is %v: %v", s, s != sentinel, err)
		}
	}
	text := err.Error()
	for _, p := range append(parts, e.op, e.name, e.Remedy) {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not say %q", text, p)
		}
	}
	if without := strings.Replace(text, "; "+e.Remedy, "", 1); e.Remedy != "" && "paramstore: "+e.Detail() != without {
		t.Errorf("the detail %q is not %q without its remedy", e.Detail(), text)
	}
	if strings.ContainsAny(text, "\n\r\t") || len(text) > 1000 {
		t.Errorf("not one line of sensible length: %q", text)
	}
	for err := error(e); err != nil; err = errors.Unwrap(err) {
		if strings.Contains(err.Error(), "PRIVATE-") {
			t.Errorf("the value is in %q", err)
		}
	}
}

func TestEachAnswerOfAWSIsAnErrorWithItsRemedy(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:ssm:us-east-1:*:parameter/mesh/fn"
	cases := map[string]struct {
		fault    ssmsim.Fault
		kind     kind
		sentinel error
		parts    []string
	}{
		"throttled":        {ssmsim.Throttled(), kindThrottled, ErrThrottled, []string{"Rate exceeded", "(request "}},
		"updated at once":  {ssmsim.Error("TooManyUpdates", "try later"), kindThrottled, ErrThrottled, []string{"try later", "another writer"}},
		"denied":           {ssmsim.AccessDenied(), kindAccessDenied, ErrDenied, []string{"allow ssm:GetParameter on " + arn, "assumed-role/fn-role", "(request "}},
		"denied by KMS":    {ssmsim.KMSDenied(), kindKMSDenied, ErrDenied, []string{"allow kms:Decrypt on the key", "ciphertext"}},
		"disabled key":     {ssmsim.InvalidKey(), kindInvalidKey, ErrInvalidKey, []string{"is disabled", "us-east-1"}},
		"expired":          {ssmsim.ExpiredToken(), kindCredentials, ErrCredentials, []string{"ExpiredTokenException"}},
		"unknown client":   {ssmsim.UnrecognizedClient(), kindCredentials, ErrCredentials, []string{"UnrecognizedClientException"}},
		"wrong clock":      {ssmsim.Error("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z"), kindCredentials, ErrCredentials, []string{"clock"}},
		"AWS's own fault":  {ssmsim.InternalError(), kindOther, nil, []string{"InternalServerError"}},
		"a bad request":    {ssmsim.Error("ValidationException", "Parameter name must be a fully qualified name."), kindOther, nil, []string{"fully qualified"}},
		"a code we forgot": {ssmsim.Error("NewException", "first line\nsecond line"), kindOther, nil, []string{"NewException: first line second line"}},
		"a busy proxy":     {ssmsim.Raw(503, "text/html", "<h1>"+secret), kindOther, nil, []string{"HTTP status 503"}},
		"a limiting proxy": {ssmsim.Raw(429, "application/json", `{"error":"slow down"}`), kindThrottled, ErrThrottled, []string{"HTTP status 429"}},
		"a login page":     {ssmsim.Raw(200, "text/html", "<html>"+secret), kindMalformed, ErrMalformed, []string{"cannot be read", "AWS_ENDPOINT_URL"}},
		"a redirect":       {ssmsim.Raw(302, "text/html", "<html>"), kindMalformed, ErrMalformed, []string{"302"}},
		"no parameter":     {ssmsim.Raw(200, "application/x-amz-json-1.1", `{}`), kindMalformed, ErrMalformed, nil},
		"no value":         {ssmsim.Raw(200, "application/x-amz-json-1.1", `{"Parameter":{"Name":"/mesh/fn"}}`), kindMalformed, ErrMalformed, nil},
		"a value too many": {ssmsim.Raw(200, "application/x-amz-json-1.1", `{"Parameter":{"Value":["`+secret+`"]}}`), kindMalformed, ErrMalformed, nil},
		"a cut answer":     {ssmsim.Truncate(), kindMalformed, ErrMalformed, []string{"cut short"}},
		"a reset":          {ssmsim.Reset(), kindUnreachable, ErrUnreachable, []string{"the connection to 127.0.0.1:", "SSM endpoint or NAT"}},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			srv := startSim(t)
			srv.Put("/mesh/fn", secret)
			srv.FailAll("", c.fault)
			_, err := open(t, srv).Reader("/mesh/fn").Fetch(t.Context())
			checkError(t, err, c.kind, c.sentinel, c.parts...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		_, err := open(t, startSim(t)).Reader("/mesh/fn").Fetch(t.Context())
		checkError(t, err, kindNotFound, ErrNotFound, "/mesh/fn", "registered", "us-east-1")
	})
}

func TestNetworkFailuresAreUnreachableAndSilenceIsATimeout(t *testing.T) {
	t.Parallel()
	// Where silence is the point, the wait for it is short.
	fetch := func(t *testing.T, endpoint string, within time.Duration) error {
		t.Helper()
		s, err := New(Config{Getenv: lambdaEnv.with("AWS_ENDPOINT_URL", endpoint).get})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err = s.Reader("/mesh/fn").Fetch(ctx)
		return err
	}
	listen := func(t *testing.T) net.Listener {
		t.Helper()
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		l.Close()
		err := fetch(t, "http://"+l.Addr().String(), time.Minute)
		checkError(t, err, kindUnreachable, ErrUnreachable, "no connection to 127.0.0.1:", "refused", "SSM endpoint or NAT")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
	// A peer that takes the TCP connection but never speaks TLS stands for a
	// route that leads nowhere: in both the transport has no connection to use.
	t.Run("no connection in time", func(t *testing.T) {
		t.Parallel()
		checkError(t, fetch(t, "https://"+listen(t).Addr().String(), time.Second), kindUnreachable, ErrUnreachable, "SSM endpoint or NAT")
	})
	t.Run("no answer in time", func(t *testing.T) {
		t.Parallel()
		checkError(t, fetch(t, "http://"+listen(t).Addr().String(), time.Second), kindTimeout, ErrTimeout, "no answer from 127.0.0.1:")
	})
	t.Run("no time left", func(t *testing.T) {
		t.Parallel()
		checkError(t, fetch(t, "http://"+listen(t).Addr().String(), -1), kindTimeout, ErrTimeout, "no time was left")
	})
	t.Run("closed without an answer", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		go closeConns(l)
		checkError(t, fetch(t, "http://"+l.Addr().String(), time.Minute), kindUnreachable, ErrUnreachable)
	})
	t.Run("a certificate nobody trusts", func(t *testing.T) {
		t.Parallel()
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		srv.Config.ErrorLog = discardLog
		srv.StartTLS()
		t.Cleanup(srv.Close)
		tr := newTransport(&tls.Config{MinVersion: tls.VersionTLS12})
		tr.TLSHandshakeTimeout = time.Minute // a busy test machine is not the question
		s, err := newStore(Config{Getenv: lambdaEnv.with("AWS_ENDPOINT_URL", srv.URL).get, AttemptTimeout: -1}, tr, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Reader("/mesh/fn").Fetch(t.Context())
		checkError(t, err, kindUnreachable, ErrUnreachable, "certificate", "AWS_CA_BUNDLE")
	})
}

// closeConns reads what a client sends first and closes the connection.
func closeConns(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadAtLeast(c, make([]byte, 4096), 1)
		c.Close()
	}
}

func TestRemediesNameTheARNOfTheirPartition(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{
		"us-east-1":      "arn:aws:ssm:us-east-1:111122223333:parameter/mesh/fn",
		"cn-north-1":     "arn:aws-cn:ssm:cn-north-1:111122223333:parameter/mesh/fn",
		"us-gov-west-1":  "arn:aws-us-gov:ssm:us-gov-west-1:111122223333:parameter/mesh/fn",
		"us-iso-east-1":  "arn:aws-iso:ssm:us-iso-east-1:111122223333:parameter/mesh/fn",
		"us-isob-east-1": "arn:aws-iso-b:ssm:us-isob-east-1:111122223333:parameter/mesh/fn",
		"eusc-de-east-1": "arn:aws-eusc:ssm:eusc-de-east-1:111122223333:parameter/mesh/fn",
	} {
		srv := startSim(t)
		srv.FailAll("", ssmsim.AccessDenied())
		env := lambdaEnv.with("AWS_REGION", region, "AWS_ENDPOINT_URL_SSM", srv.URL())
		s, err := New(Config{Getenv: env.get, AccountID: "111122223333"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		_, err = s.Reader("/mesh/fn").Fetch(t.Context())
		checkError(t, err, kindAccessDenied, ErrDenied, "allow ssm:GetParameter on "+want)
	}
}

// R18: AWS quotes what it refuses.
func TestAMessageThatQuotesTheValueIsLeftOut(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	w := open(t, srv).Writer(WriterConfig{})
	for _, message := range []string{
		"Value '" + secret + "' at 'value' failed to satisfy constraint",
		"Value '" + secret[:20] + "…' failed",
		"line one\nValue '" + secret[3:30],
	} {
		srv.FailNext("", 1, ssmsim.Error("ValidationException", message))
		_, err := w.Put(t.Context(), "/mesh/fn", []byte(secret))
		checkError(t, err, kindOther, nil, "ValidationException")
	}
}

func TestAnErrorFromElsewhereBecomesOneShortLine(t *testing.T) {
	t.Parallel()
	c := &call{store: &Store{}, op: "GetParameter", name: "/mesh/fn", parent: t.Context()}
	err := c.failed(errors.New(strings.Repeat("long and\nbroken ", 1000)))
	checkError(t, err, kindOther, nil, "long and broken long", "…")
}

func TestAnErrorOfNothingButACallStillPrints(t *testing.T) {
	t.Parallel()
	e := &Error{op: "Op", name: "/n"}
	if got := e.Error(); got != "paramstore: "+e.Detail() || e.Detail() != "Op /n: failed" || errors.Is(e, ErrNotFound) || errors.Unwrap(e) != nil {
		t.Errorf("got %q", got)
	}
}
