// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestABillNamesWhatIsLinkedAndNoDate(t *testing.T) {
	info := &buildinfo.BuildInfo{
		GoVersion: "go1.26.8", Path: "example.com/m/cmd/p",
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.2.3", Sum: "h1:abc="},
			{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v2.0.0+incompatible"}},
		},
	}
	bom := billOf(info, "p", sha256.Sum256([]byte("program")))
	var purls []string
	for _, c := range *bom.Components {
		purls = append(purls, c.PackageURL)
	}
	const want = "pkg:golang/std@1.26.8 pkg:golang/example.com/a@v1.2.3 pkg:golang/example.com/new@v2.0.0%2Bincompatible"
	if got := strings.Join(purls, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Error("two runs would differ")
	}
	if n := len(*(*bom.Dependencies)[0].Dependencies); n != 3 {
		t.Errorf("the program depends on %d, want 3", n)
	}
}

func TestEachBinaryOfAFolderHasABill(t *testing.T) {
	self, err := os.Executable() // a Go binary like any other
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := run([]string{dir}); err == nil {
		t.Error("an empty folder was taken")
	}
	for _, platform := range []string{"linux_amd64", "linux_arm64"} {
		if err := os.Mkdir(filepath.Join(dir, platform), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, platform, "p"), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p_linux_amd64.cdx.json", "p_linux_arm64.cdx.json"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), `"bomFormat": "CycloneDX"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
