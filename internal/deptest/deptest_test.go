// SPDX-License-Identifier: MPL-2.0

package deptest

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// platforms are the ones that binaries are shipped for, and a laptop's: an import may stand in a file that only one of them builds.
var platforms = [][2]string{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

func TestImportsFollowTheDesign(t *testing.T) {
	root := moduleRoot(t)
	for _, platform := range platforms {
		g := load(t, root, platform[0], platform[1])
		for _, r := range rules {
			t.Run(platform[0]+"/"+platform[1]+"/"+r.name, func(t *testing.T) {
				violations, judged := r.check(g)
				for _, v := range violations {
					t.Errorf("%s\nrule: %s\nreason: %s", v, r.name, r.reason)
				}
				if judged == 0 {
					t.Fatal("what this rule is about does not exist: was it renamed?")
				}
			})
		}
	}
}

// dependencies are the modules that the root go.mod may require directly, each with its argument. A trailing "/..." stands for every
// module below.
var dependencies = map[string]string{
	"github.com/aws/aws-lambda-go":      "the registrator's main loop, and the shapes of the events it is sent",
	"github.com/aws/aws-sdk-go-v2/...":  "request signing, retries and endpoints of a dozen partitions",
	"github.com/aws/smithy-go":          "the types of the SDK's errors and transports: no module of its own, and nothing more to link",
	"github.com/hashicorp/consul/api":   "reads CONSUL_HTTP_* and TLS settings exactly as every Consul tool does",
	"github.com/caarlos0/env/v11":       "environment to struct, with all errors at once; no dependencies",
	"github.com/urfave/cli/v3":          "the person's command: sub-commands, flags, help; no dependencies",
	"github.com/valyala/bytebufferpool": "buffers that are pooled by the size their callers turn out to need",
	"golang.org/x/sync":                 "errgroup and semaphore",
	"golang.org/x/sys":                  "timerfd, TCP_USER_TIMEOUT, process groups",
	"golang.org/x/time":                 "rate limits of the registrator's APIs",
	"github.com/google/go-cmp":          "tests: readable differences",
	"github.com/rogpeppe/go-internal":   "tests: testscript, transcripts of the commands",
	"go.uber.org/goleak":                "tests: every goroutine has an exit",
}

func TestRootModuleRequiresOnlyArguedDependencies(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace, Tool []struct{ Path string }
	}
	if err := json.Unmarshal(goCommand(t, moduleRoot(t), nil, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	for _, req := range mod.Require {
		if !req.Indirect && !argued(req.Path) {
			t.Errorf("go.mod requires %s directly: argue it in its commit and list it here, or do without", req.Path)
		}
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod replaces %v: a replacement holds for us only, not for those who import the module", mod.Replace)
	}
	if len(mod.Tool) > 0 {
		t.Errorf("go.mod has tools %v: they live in modules of their own, under tools", mod.Tool)
	}
}

func argued(module string) bool {
	for pattern := range dependencies {
		if match(pattern, module) {
			return true
		}
	}
	return false
}

func TestOnlyListedModulesAreArgued(t *testing.T) {
	for module, want := range map[string]bool{
		"golang.org/x/sys":                         true,
		"github.com/aws/aws-sdk-go-v2":             true,
		"github.com/aws/aws-sdk-go-v2/service/ssm": true,
		"github.com/aws/aws-sdk-go-v2x":            false,
		"github.com/hashicorp/consul":              false,
		"github.com/hashicorp/consul/api/v2":       false,
		"golang.org/x/net":                         false,
	} {
		if got := argued(module); got != want {
			t.Errorf("argued(%q) = %v, want %v", module, got, want)
		}
	}
}

// The layer must run on every Lambda runtime, whatever its C library.
func TestExtensionIsAStaticBinaryWithoutCgo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	root := moduleRoot(t)
	if _, err := os.Stat(filepath.Join(root, extension, "main.go")); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the extension has no main")
	}
	binary := filepath.Join(t.TempDir(), "extension")
	goCommand(t, root, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"},
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, extension)
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, prog := range file.Progs {
		if prog.Type == elf.PT_INTERP {
			t.Error("the binary asks for a dynamic loader")
		}
	}
	if libs, err := file.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("the binary is linked against %s", strings.Join(libs, ", "))
	}
	if symbols, err := file.Symbols(); !errors.Is(err, elf.ErrNoSymbols) {
		t.Errorf("the binary is not stripped: %d symbols, %v", len(symbols), err)
	}
}
