// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// product is a program that is published: what it is called in its zip, and where its licenses are there.
type product struct{ binary, entry, licenses string }

var products = []product{
	{"consul-lambda-extension", "extensions/consul-lambda-extension", "consul-lambda-extension-licenses"},
	{"consul-lambda-registrator", "bootstrap", "licenses"},
	{"mesh-function", "bootstrap", "licenses"},
	{"consul-lambda", "consul-lambda", "licenses"},
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: release DIR, got %d arguments", len(args))
	}
	dir, extensions := args[0], 0
	for _, p := range products {
		binaries, err := filepath.Glob(filepath.Join(dir, "*", p.binary))
		if err != nil {
			return fmt.Errorf("looking for binaries: %w", err)
		}
		for _, binary := range binaries {
			if err := p.pack(ctx, dir, binary); err != nil {
				return fmt.Errorf("packing %s: %w", binary, err)
			}
			if p == products[0] {
				extensions++
			}
		}
	}
	if extensions == 0 {
		return fmt.Errorf("no PLATFORM/%s in %s", products[0].binary, dir)
	}
	return writeSums(dir)
}

// pack writes a binary's licenses, and its zip.
func (p product) pack(ctx context.Context, dir, binary string) error {
	licenses, err := licensesOf(ctx, binary)
	if err != nil {
		return err
	}
	beside := binary + "-licenses"
	if err := os.MkdirAll(beside, 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	entries := []entry{{p.entry, 0o755, program}}
	for _, l := range licenses {
		if err := publish(filepath.Join(beside, l.name), l.content); err != nil {
			return err
		}
		entries = append(entries, entry{p.licenses + "/" + l.name, 0o644, l.content})
	}
	archive, err := zipOf(entries)
	if err != nil {
		return err
	}
	return publish(filepath.Join(dir, p.binary+"_"+filepath.Base(filepath.Dir(binary))+".zip"), archive)
}

// publish writes a file that everybody may read.
func publish(path string, content []byte) error {
	return os.WriteFile(path, content, 0o644) //nolint:gosec // why: a published file is readable
}
