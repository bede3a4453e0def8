// SPDX-License-Identifier: MPL-2.0

// Command sbom writes, beside each program of a folder of binaries, a software bill of materials: what is linked into it, in
// CycloneDX's JSON (cyclonedx.org/specification).
//
//	sbom dist   # dist/linux_amd64/consul-lambda -> dist/consul-lambda_linux_amd64.cdx.json
//
// It asks the binary and nothing else: the go command wrote into it which modules, of which version and with which checksum, were
// compiled in. The same binary gives the same bytes: there is no date and no random serial number.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: sbom DIR, got %d arguments", len(args))
	}
	files, err := filepath.Glob(filepath.Join(args[0], "*_*", "*"))
	if err != nil {
		return err
	}
	written := 0
	for _, path := range files {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			continue
		}
		name := filepath.Base(path) + "_" + filepath.Base(filepath.Dir(path)) + ".cdx.json"
		if err := write(filepath.Join(args[0], name), path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		written++
	}
	if written == 0 {
		return fmt.Errorf("no PLATFORM/PROGRAM in %s", args[0])
	}
	return nil
}

// write writes the bill of one binary.
func write(path, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	bom := billOf(info, filepath.Base(binary), sha256.Sum256(content))
	return errors.Join(cyclonedx.NewBOMEncoder(file, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6), file.Close())
}

func billOf(info *buildinfo.BuildInfo, name string, digest [sha256.Size]byte) *cyclonedx.BOM {
	program := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeApplication, BOMRef: info.Path, Name: name,
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", digest)}},
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "MPL-2.0"}}},
	}
	var settings []cyclonedx.Property
	for _, s := range info.Settings {
		settings = append(settings, cyclonedx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	program.Properties = &settings

	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	components := []cyclonedx.Component{library("std", goVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := library(m.Path, m.Version)
		if m.Sum != "" { // the checksum of go.sum, which is of no kind that CycloneDX knows
			c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		components = append(components, c)
	}
	linked := make([]string, len(components))
	for i, c := range components {
		linked[i] = c.BOMRef
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &linked}}
	return bom
}

// library is a module. Its name is that of the ecosystem: github.com/package-url/purl-spec, type golang.
func library(path, version string) cyclonedx.Component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{Type: cyclonedx.ComponentTypeLibrary, BOMRef: purl, Name: path, Version: version, PackageURL: purl}
}
