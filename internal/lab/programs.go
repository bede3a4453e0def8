// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs are the executables that a sandbox runs. The zero value is none.
type Programs struct {
	Extension   string // path of consul-lambda-extension; Lambda knows an extension by its file name
	Function    string // path of the runtime: examples/mesh-function
	Registrator string // path of consul-lambda-registrator, a runtime too; only a [Control] needs it
}

const (
	extensionName   = "consul-lambda-extension"
	functionName    = "mesh-function"
	registratorName = "consul-lambda-registrator"
)

// FindPrograms returns the programs in dir, where `make build` puts them. The error wraps ErrNoPrograms.
func FindPrograms(dir string) (Programs, error) {
	p := programsIn(dir)
	for _, path := range []string{p.Extension, p.Function, p.Registrator} {
		info, err := os.Stat(path)
		if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			err = errors.New("it is not an executable file")
		}
		if err != nil {
			return Programs{}, fmt.Errorf("lab: %w: %s: %w", ErrNoPrograms, path, err)
		}
	}
	return p, nil
}

func programsIn(dir string) Programs {
	return Programs{
		Extension:   filepath.Join(dir, extensionName),
		Function:    filepath.Join(dir, functionName),
		Registrator: filepath.Join(dir, registratorName),
	}
}

// BuildOptions change what [Build] makes. The zero value asks for what is shipped.
type BuildOptions struct {
	// Race builds the extension with the race detector, which needs a C compiler: a race then is a report on stderr, and
	// an exit with code 66.
	Race bool

	// Registrator builds the registrator instead of the other two, with Race as the extension: a test has use for one or the
	// other, and the registrator's AWS SDK takes minutes when the go command's cache is cold.
	Registrator bool
}

// tags leave out of these programs what the Makefile does, which says why.
const tags = "-tags=nethttpomithttp2,lambda.norpc"

// Build compiles the programs from the sources of the module that the working directory is in, into dir. It takes a
// second when the go command's cache is warm. The caller owns dir. What it returns names what was built.
func Build(ctx context.Context, dir string, opts BuildOptions) (Programs, error) {
	p := programsIn(dir)
	args, cgo := []string{tags, "-trimpath", "-ldflags=-s -w"}, "CGO_ENABLED=0"
	if opts.Race {
		args, cgo = []string{tags, "-race"}, "CGO_ENABLED=1"
	}
	if opts.Registrator {
		p.Extension, p.Function = "", ""
		return p, build(ctx, cgo, p.Registrator, "./cmd/"+registratorName, args...)
	}
	p.Registrator = ""
	if err := build(ctx, cgo, p.Extension, "./cmd/"+extensionName, args...); err != nil {
		return Programs{}, err
	}
	return p, build(ctx, "CGO_ENABLED=0", p.Function, "./examples/"+functionName)
}

func build(ctx context.Context, cgo, binary, pkg string, args ...string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-buildvcs=false", "-o", binary}, args...), pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: building %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("lab: looking for the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
