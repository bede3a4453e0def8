// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// built makes a folder as the Makefile leaves it, every file dated differently, and returns it released.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{
		"linux_amd64/consul-lambda", "linux_amd64/consul-lambda-extension", "linux_arm64/consul-lambda-extension",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("the bytes of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		date := time.Now().Add(-time.Duration(i) * time.Hour)
		if err := os.Chtimes(path, date, date); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The predecessor's layer had a LICENSE in extensions/, which Lambda would try to start.
func TestALayerHoldsOneExecutableAndNothingElse(t *testing.T) {
	dir := built(t)
	for _, platform := range []string{"linux_amd64", "linux_arm64"} {
		archive := read(t, dir, "consul-lambda-extension_"+platform+".zip")
		r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.File) != 1 {
			t.Fatalf("%s: %d entries, want 1", platform, len(r.File))
		}
		entry := r.File[0]
		if entry.Name != "extensions/consul-lambda-extension" || entry.Mode() != 0o755 {
			t.Errorf("%s: %s with mode %v, want extensions/consul-lambda-extension with -rwxr-xr-x", platform, entry.Name, entry.Mode())
		}
		content, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(content); err != nil || string(got) != "the bytes of "+platform+"/consul-lambda-extension" {
			t.Errorf("%s: unpacks to %q, %v", platform, got, err)
		}
	}
}

func TestTheSameBinariesGiveTheSameBytes(t *testing.T) {
	a, b := built(t), built(t)
	for _, name := range []string{"consul-lambda-extension_linux_amd64.zip", "SHA256SUMS"} {
		if !bytes.Equal(read(t, a, name), read(t, b, name)) {
			t.Errorf("%s differs between two runs", name)
		}
	}
}

func TestSumsCoverEveryFileAlsoWhenRunAgain(t *testing.T) {
	dir := built(t)
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(read(t, dir, "SHA256SUMS")), "\n"), "\n")
	if len(lines) != 5 { // three binaries, two layers
		t.Errorf("%d lines, want 5: %q", len(lines), lines)
	}
	for _, line := range lines {
		digest, name, ok := strings.Cut(line, "  ")
		if !ok || digest != fmt.Sprintf("%x", sha256.Sum256(read(t, dir, name))) {
			t.Errorf("%q is not what sha256sum prints for that file", line)
		}
	}
}

func TestAFolderWithoutTheExtensionIsRefused(t *testing.T) {
	if err := run([]string{t.TempDir()}); err == nil {
		t.Error("released an empty folder")
	}
	if err := run(nil); err == nil {
		t.Error("released no folder")
	}
}
