// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// maxExtensions is Lambda's limit of extensions per function, internal ones
// included.
const maxExtensions = 10

// Function is what a function's author configures, plus the two limits that
// Lambda sets and tests want to shorten.
type Function struct {
	// Name of the function; empty means "function".
	Name string
	// Version of the function; empty means "$LATEST".
	Version string
	// Handler is what the runtime finds in _HANDLER; empty means "bootstrap".
	Handler string
	// MemoryMB is announced, not enforced; 0 means 128.
	MemoryMB int
	// Timeout bounds one invocation, extensions included; 0 means 3 s.
	Timeout time.Duration
	// Env holds the function's variables. Extensions receive them too, except
	// those whose names begin with an underscore.
	Env map[string]string
	// Bootstrap is the path of the runtime's executable; required.
	Bootstrap string
	// Extensions are the paths of the external extensions' executables, at
	// most 10. The base name is the extension's name and must be unique.
	Extensions []string
	// InitLimit bounds Init; 0 means 10 s.
	InitLimit time.Duration
	// ShutdownLimit is the whole window of a shutdown; 0 means Lambda's: 2 s
	// with external extensions, 500 ms with internal ones only, none without.
	ShutdownLimit time.Duration
}

// Options are the surroundings of a sandbox. The zero value works.
type Options struct {
	// Region is AWS_REGION and part of the ARN; empty means "us-east-1".
	Region string
	// AccountID is part of the ARN; empty means "123456789012".
	AccountID string
	// AccessKeyID, SecretAccessKey and SessionToken are the credentials of the
	// function's role; empty ones are replaced by placeholders.
	AccessKeyID, SecretAccessKey, SessionToken string
	// InitializationType is AWS_LAMBDA_INITIALIZATION_TYPE; empty means
	// "on-demand".
	InitializationType string
	// AutoFreeze freezes the sandbox after each invocation, once the runtime
	// and the extensions that take part in it are done. After Init it is not
	// frozen: on demand, an invocation follows at once.
	AutoFreeze bool
	// SuppressInitError makes Start return a sandbox whose Init failed. As on
	// Lambda the next Invoke then runs Init again, within the function
	// timeout; Err tells how the first attempt failed.
	SuppressInitError bool
	// Prepare, when set, is called with each command just before it is
	// started, to place the process under limits. It may add to SysProcAttr;
	// Setpgid and Pdeathsig must stay.
	Prepare func(*exec.Cmd)
	// OnLog, when set, receives every line in order. It is called with a lock
	// held: it must be quick and must not call the sandbox.
	OnLog func(Line)
}

// resolve returns f with defaults filled in and paths made absolute.
func (f Function) resolve() (Function, error) {
	setDefault(&f.Name, "function")
	setDefault(&f.Version, "$LATEST")
	setDefault(&f.Handler, "bootstrap")
	setDefault(&f.MemoryMB, 128)
	setDefault(&f.Timeout, 3*time.Second)
	setDefault(&f.InitLimit, 10*time.Second)
	if f.Timeout < 0 || f.InitLimit < 0 || f.ShutdownLimit < 0 {
		return f, errors.New("a limit is negative")
	}
	if f.Bootstrap == "" {
		return f, errors.New("no bootstrap given")
	}
	var err error
	if f.Bootstrap, err = filepath.Abs(f.Bootstrap); err != nil {
		return f, fmt.Errorf("resolving the bootstrap: %w", err)
	}
	seen := make(map[string]bool)
	extensions := make([]string, len(f.Extensions))
	for i, path := range f.Extensions {
		if extensions[i], err = filepath.Abs(path); err != nil {
			return f, fmt.Errorf("resolving extension %q: %w", path, err)
		}
		name := filepath.Base(path)
		if seen[name] {
			return f, fmt.Errorf("two extensions are named %q", name)
		}
		seen[name] = true
	}
	f.Extensions = extensions
	return f, nil
}

// resolve returns o with defaults filled in.
func (o Options) resolve() Options {
	setDefault(&o.Region, "us-east-1")
	setDefault(&o.AccountID, "123456789012")
	setDefault(&o.AccessKeyID, "lambdasim-access-key-id")
	setDefault(&o.SecretAccessKey, "lambdasim-secret-access-key")
	setDefault(&o.SessionToken, "lambdasim-session-token")
	setDefault(&o.InitializationType, "on-demand")
	return o
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// arn is the ARN that invokers use when they give no qualifier.
func (f Function) arn(o Options) string {
	return "arn:aws:lambda:" + o.Region + ":" + o.AccountID + ":function:" + f.Name
}
