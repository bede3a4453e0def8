// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is a real one, because what is published depends on what the go command wrote into it: the example function, which links
// one module.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "program")
	// As the Makefile does, which also makes it small: most of these tests' time is compression.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags=nethttpomithttp2,lambda.norpc", "-ldflags=-s -w",
		"-o", path, "../../examples/mesh-function")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building: %w\n%s", err, out)
	}
	return os.ReadFile(path)
})

// everything is a folder as the Makefile leaves it.
var everything = []string{
	"linux_amd64/consul-lambda-extension", "linux_arm64/consul-lambda-extension", "linux_amd64/consul-lambda-registrator",
	"linux_amd64/mesh-function", "darwin_arm64/consul-lambda",
}

// built makes a folder with those files, every one dated differently, and returns it released.
func built(t *testing.T, names ...string) string {
	t.Helper()
	t.Parallel()
	return release(t, names)
}

func release(t *testing.T, names []string) string {
	t.Helper()
	content, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		date := time.Now().Add(-time.Duration(i) * time.Hour)
		if err := os.Chtimes(path, date, date); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t.Context(), []string{dir}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// unzip returns what is in a zip: the modes and the contents by name.
func unzip(t *testing.T, dir, name string) (modes map[string]fs.FileMode, contents map[string][]byte) {
	t.Helper()
	archive := read(t, dir, name)
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	modes, contents = make(map[string]fs.FileMode), make(map[string][]byte)
	for _, entry := range r.File {
		if !entry.Modified.Equal(epoch) {
			t.Errorf("%s: %s is of %v", name, entry.Name, entry.Modified)
		}
		content, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if contents[entry.Name], err = io.ReadAll(content); err != nil {
			t.Fatalf("%s: %s: %v", name, entry.Name, err)
		}
		modes[entry.Name] = entry.Mode()
	}
	return modes, contents
}

// wantZip demands that a zip holds one program, executable, and its licenses, and returns their text.
func wantZip(t *testing.T, dir, name, binary string, p product) string {
	t.Helper()
	modes, contents := unzip(t, dir, name)
	want := map[string]fs.FileMode{p.entry: 0o755, p.licenses + "/LICENSE": 0o644, p.licenses + "/THIRD-PARTY-LICENSES": 0o644}
	if fmt.Sprint(modes) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, want %v", name, modes, want)
	}
	if !bytes.Equal(contents[p.entry], read(t, dir, binary)) {
		t.Errorf("%s: %s is not %s", name, p.entry, binary)
	}
	return string(contents[p.licenses+"/THIRD-PARTY-LICENSES"])
}

// The predecessor's layer had a LICENSE in extensions/, which Lambda would try to start.
func TestTheExtensionsOfALayerAreOneExecutable(t *testing.T) {
	dir := built(t, everything[:2]...)
	for _, platform := range []string{"linux_amd64", "linux_arm64"} {
		wantZip(t, dir, "consul-lambda-extension_"+platform+".zip", platform+"/consul-lambda-extension", products[0])
	}
	if entry := products[0]; entry.entry != "extensions/consul-lambda-extension" || strings.HasPrefix(entry.licenses, "extensions") {
		t.Errorf("%+v", entry)
	}
}

func TestAFunctionsZipHoldsABootstrap(t *testing.T) {
	dir := built(t, everything[1:]...)
	wantZip(t, dir, "consul-lambda-registrator_linux_amd64.zip", "linux_amd64/consul-lambda-registrator", product{entry: "bootstrap", licenses: "licenses"})
	wantZip(t, dir, "consul-lambda_darwin_arm64.zip", "darwin_arm64/consul-lambda", product{entry: "consul-lambda", licenses: "licenses"})
}

func TestLicensesAreThoseOfAllThatIsLinked(t *testing.T) {
	dir := built(t, everything[0])
	text := string(read(t, dir, "linux_amd64/consul-lambda-extension-licenses/THIRD-PARTY-LICENSES"))
	for _, want := range []string{"the Go standard library and runtime go1.", "github.com/aws/aws-lambda-go v1.", "Apache License", "The Go Authors"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %d bytes", want, len(text))
		}
	}
	if strings.Contains(text, "urfave") || strings.Contains(text, "src/cmd") {
		t.Error("there are licenses of what is not linked")
	}
	if own := string(read(t, dir, "linux_amd64/consul-lambda-extension-licenses/LICENSE")); !strings.Contains(own, "Mozilla Public License") {
		t.Errorf("our own license is %.80q", own)
	}
}

func TestAModuleWithoutALicenseIsNotPublished(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "NOTICE"), []byte("somebody wrote this"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := new(texts).collect(module{Path: "example.com/m", Version: "v1.0.0", Dir: dir}); err == nil {
		t.Error("a notice was taken for a license")
	}
}

func TestTheSameBinariesGiveTheSameBytes(t *testing.T) {
	a, b := built(t, everything[0]), release(t, everything[:1])
	for _, name := range []string{"consul-lambda-extension_linux_amd64.zip", "SHA256SUMS"} {
		if !bytes.Equal(read(t, a, name), read(t, b, name)) {
			t.Errorf("%s differs between two runs", name)
		}
	}
}

func TestSumsCoverEveryFileAlsoWhenRunAgain(t *testing.T) {
	dir := built(t, everything[0], everything[2])
	if err := run(t.Context(), []string{dir}); err != nil {
		t.Fatal(err)
	}
	if n := checkSums(t, dir); n != 8 { // of each binary: itself, two licenses, a zip
		t.Errorf("%d lines, want 8", n)
	}
}

// checkSums compares SHA256SUMS with the files, and returns how many lines it has.
func checkSums(t *testing.T, dir string) int {
	t.Helper()
	n, files := 0, 0
	for line := range strings.Lines(string(read(t, dir, sums))) {
		digest, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || digest != fmt.Sprintf("%x", sha256.Sum256(read(t, dir, name))) {
			t.Errorf("%q is not what sha256sum prints for that file", line)
		}
		n++
	}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != n+1 {
		t.Errorf("%d files, %d sums, %v", files, n, err)
	}
	return n
}

func TestAFolderWithoutTheExtensionIsRefused(t *testing.T) {
	if err := run(t.Context(), []string{t.TempDir()}); err == nil {
		t.Error("released an empty folder")
	}
	if err := run(t.Context(), nil); err == nil {
		t.Error("released no folder")
	}
}
