// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The tests in this file judge what `make dist` has built; `make dist-check` runs them. Without DIST they have nothing to judge.
//
//	DIST        the folder, absolute
//	VERSION     what every binary must say it is
//	MAX_BYTES   what the extension may have at the most
//	COLD        not empty: the second build compiles everything anew; otherwise what the first one compiled is used where the go
//	            command takes it to be the same

// published are the programs by platform.
var published = map[string][]string{
	"linux_amd64":  {"consul-lambda", "consul-lambda-extension", "consul-lambda-registrator", "mesh-function"},
	"linux_arm64":  {"consul-lambda", "consul-lambda-extension", "consul-lambda-registrator", "mesh-function"},
	"darwin_amd64": {"consul-lambda"},
	"darwin_arm64": {"consul-lambda"},
}

// dist returns the folder, and skips the test where there is none.
func dist(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("DIST")
	if dir == "" {
		t.Skip("DIST is not set: see make dist-check")
	}
	return dir
}

// eachBinary calls f for every binary that is to be there.
func eachBinary(t *testing.T, f func(t *testing.T, dir, platform, name string)) {
	t.Helper()
	dir := dist(t)
	for platform, names := range published {
		for _, name := range names {
			t.Run(platform+"/"+name, func(t *testing.T) { f(t, dir, platform, name) })
		}
	}
}

func productOf(name string) product {
	return products[slices.IndexFunc(products, func(p product) bool { return p.binary == name })]
}

func TestDistHoldsWhatIsPublishedAndNothingElse(t *testing.T) {
	dir := dist(t)
	want := []string{sums}
	for platform, names := range published {
		for _, name := range names {
			want = append(want, platform+"/"+name, platform+"/"+name+"-licenses/LICENSE", platform+"/"+name+"-licenses/THIRD-PARTY-LICENSES",
				name+"_"+platform+".zip", name+"_"+platform+".cdx.json")
		}
	}
	slices.Sort(want)
	var got []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(name))
		}
		return err
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\nthere are %s\n    want %s", err, strings.Join(got, " "), strings.Join(want, " "))
	}
	checkSums(t, dir)
}

func TestDistsBinariesAreStaticStrippedAndStamped(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	eachBinary(t, func(t *testing.T, dir, platform, name string) {
		content := read(t, dir, platform+"/"+name)
		if system, arch, _ := strings.Cut(platform, "_"); system == "linux" {
			checkELF(t, content, map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch])
		} else {
			checkMachO(t, content, map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[arch])
		}
		st, err := os.Stat(filepath.Join(dir, platform, name))
		if err != nil || st.Mode() != 0o755 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || settings["vcs"] != "" {
			t.Errorf("built with %v", settings)
		}
		if name != "mesh-function" && !bytes.Contains(content, []byte(os.Getenv("VERSION"))) {
			t.Errorf("does not say that it is %s", os.Getenv("VERSION"))
		}
		if home, err := os.UserHomeDir(); bytes.Contains(content, []byte(root+"/")) || err == nil && len(home) > 1 && bytes.Contains(content, []byte(home+"/go")) {
			t.Error("holds a path of this machine")
		}
	})
}

func checkELF(t *testing.T, content []byte, want elf.Machine) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != want || f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		t.Errorf("%v %v, want an executable for %v", f.Machine, f.Type, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("has %v: not static", p.Type)
		}
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_SYMTAB || strings.HasPrefix(s.Name, ".debug") || strings.HasPrefix(s.Name, ".zdebug") {
			t.Errorf("has %s: not stripped", s.Name)
		}
	}
}

func checkMachO(t *testing.T, content []byte, want macho.Cpu) {
	t.Helper()
	f, err := macho.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if f.Cpu != want || f.Type != macho.TypeExec {
		t.Errorf("%v %v, want an executable for %v", f.Cpu, f.Type, want)
	}
}

func TestDistsZipsHoldOneProgramAndItsLicenses(t *testing.T) {
	eachBinary(t, func(t *testing.T, dir, platform, name string) {
		text := wantZip(t, dir, name+"_"+platform+".zip", platform+"/"+name, productOf(name))
		info, err := buildinfo.Read(bytes.NewReader(read(t, dir, platform+"/"+name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range info.Deps {
			if !strings.Contains(text, "\n"+dep.Path+" "+dep.Version+"\n") {
				t.Errorf("no license of %s %s", dep.Path, dep.Version)
			}
		}
	})
}

// The extension is read from disk in every cold start.
func TestDistsExtensionIsWithinItsSize(t *testing.T) {
	dir := dist(t)
	limit, err := strconv.Atoi(os.Getenv("MAX_BYTES"))
	if err != nil {
		t.Fatal(err)
	}
	for _, platform := range []string{"linux_amd64", "linux_arm64"} {
		n := len(read(t, dir, platform+"/consul-lambda-extension"))
		t.Logf("%s: %d bytes, limit %d", platform, n, limit)
		if n > limit {
			t.Error("too large")
		}
	}
}

func TestDistsBillsNameEveryLinkedModule(t *testing.T) {
	eachBinary(t, func(t *testing.T, dir, platform, name string) {
		var bill struct {
			BOMFormat, SpecVersion string
			Metadata               struct {
				Component struct {
					Name   string
					Hashes []struct{ Alg, Content string }
				}
			}
			Components []struct {
				Name, Version, Purl string
				Properties          []struct{ Name, Value string }
			}
		}
		if err := json.Unmarshal(read(t, dir, name+"_"+platform+".cdx.json"), &bill); err != nil {
			t.Fatal(err)
		}
		content := read(t, dir, platform+"/"+name)
		digest, err := digestOf(filepath.Join(dir, platform, name))
		if err != nil {
			t.Fatal(err)
		}
		self := bill.Metadata.Component
		if bill.BOMFormat != "CycloneDX" || self.Name != name || len(self.Hashes) != 1 || self.Hashes[0].Content != fmt.Sprintf("%x", digest) {
			t.Errorf("%s %s of %+v", bill.BOMFormat, bill.SpecVersion, self)
		}
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"std " + strings.TrimPrefix(info.GoVersion, "go") + " "}
		for _, dep := range info.Deps {
			want = append(want, dep.Path+" "+dep.Version+" "+dep.Sum)
		}
		var got []string
		for _, c := range bill.Components {
			sum := ""
			for _, p := range c.Properties {
				sum += p.Value
			}
			got = append(got, c.Name+" "+c.Version+" "+sum)
			if !strings.HasPrefix(c.Purl, "pkg:golang/"+c.Name+"@") {
				t.Errorf("%s is %s", c.Name, c.Purl)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("names %q, want %q", got, want)
		}
	})
}

// The same sources give the same bytes from another folder, under another name, with files of other dates and without a history.
func TestDistIsTheSameFromAnotherFolder(t *testing.T) {
	dir := dist(t)
	root := "../.."
	list, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "some where", "else")
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		st, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			continue // deleted, and not committed yet
		}
		to := filepath.Join(elsewhere, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, read(t, root, name), st.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "make", "-C", elsewhere, "dist", "VERSION="+os.Getenv("VERSION"))
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") // of the make that runs this test
	})
	if os.Getenv("COLD") != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+t.TempDir())
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	here, there := read(t, dir, sums), read(t, filepath.Join(elsewhere, "dist"), sums)
	if !bytes.Equal(here, there) {
		t.Errorf("here\n%s\nthere\n%s", here, there)
	}
}
