// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// license is a file that is published beside a binary.
type license struct {
	name    string
	content []byte
}

// licensesOf returns our own license, and those of all that is linked into a binary: what the go command wrote into it says which
// modules these are, and of which version.
func licensesOf(ctx context.Context, binary string) ([]license, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	modules, err := locate(ctx, info)
	if err != nil {
		return nil, err
	}
	var third texts
	for _, m := range modules[1:] {
		if err := third.collect(m); err != nil {
			return nil, err
		}
	}
	own, err := os.ReadFile(filepath.Join(modules[0].Dir, "LICENSE"))
	if err != nil {
		return nil, err
	}
	return []license{{"LICENSE", own}, {"THIRD-PARTY-LICENSES", third.bytes(filepath.Base(info.Path))}}, nil
}

// module is one, as the go command knows it; Go itself is another.
type module struct {
	Path, Version, Dir string

	isGo bool
}

func (m module) String() string { return strings.TrimSpace(m.Path + " " + m.Version) }

// locate returns where the sources of a binary's modules are: the main one's first, then Go itself, then the others.
func locate(ctx context.Context, info *buildinfo.BuildInfo) ([]module, error) {
	root, err := goCommand(ctx, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-m", "-json", info.Main.Path}
	want := make(map[string]string)
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			return nil, fmt.Errorf("module %s is replaced: whose license is it?", dep.Path)
		}
		args, want[dep.Path] = append(args, dep.Path), dep.Version
	}
	list, err := goCommand(ctx, args...)
	if err != nil {
		return nil, err
	}
	var modules []module
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var m module
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading the go command's list: %w", err)
		}
		if v, linked := want[m.Path]; linked && v != m.Version || m.Dir == "" {
			return nil, fmt.Errorf("module %s is at %q in %q, the binary has %s", m.Path, m.Version, m.Dir, v)
		}
		modules = append(modules, m)
	}
	self := module{Path: "the Go standard library and runtime", Version: info.GoVersion, Dir: string(bytes.TrimSpace(root)), isGo: true}
	return slices.Insert(modules, 1, self), nil
}

func goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}

// texts are license texts, each with all that it holds for.
type texts []struct {
	of   []string
	text string
}

// licenseName matches what a license is called, or what has to be passed on with one; theLicense the former.
var (
	licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.\-_].*)?$`)
	theLicense  = regexp.MustCompile(`(?i)^(licen|copying)`)
)

// goVendor is where Go keeps what others wrote that it links; the rest of its tree is compilers and tools.
const goVendor = "src/vendor"

// collect adds the texts of a module, those of folders within it too: some hold code of others. That one of these may not be
// linked does no harm.
func (t *texts) collect(m module) error {
	found := false
	err := filepath.WalkDir(m.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(m.Dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name != "." && (d.Name()[0] == '.' || d.Name() == "testdata" || m.isGo && name != "src" && !strings.HasPrefix(name, goVendor)) {
				return fs.SkipDir
			}
			return nil
		}
		if !licenseName.MatchString(d.Name()) || filepath.Ext(path) == ".go" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		of := m.String()
		if strings.Contains(name, "/") {
			of += ", " + name
		} else if theLicense.MatchString(name) {
			found = true
		}
		t.add(of, strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n")))
		return nil
	})
	if err == nil && !found {
		err = errors.New("has no license")
	}
	if err != nil {
		return fmt.Errorf("module %s: %w", m, err)
	}
	return nil
}

func (t *texts) add(of, text string) {
	for i := range *t {
		if (*t)[i].text == text {
			(*t)[i].of = append((*t)[i].of, of)
			return
		}
	}
	*t = append(*t, struct {
		of   []string
		text string
	}{[]string{of}, text})
}

// bytes is all of it, in the order in which it was found.
func (t *texts) bytes(program string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "What others wrote and is part of %s, and the terms under which it is.\n", program)
	line := strings.Repeat("=", 80)
	for _, x := range *t {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", line, strings.Join(x.of, "\n"), line, x.text)
	}
	return b.Bytes()
}
