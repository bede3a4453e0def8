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
	"path/filepath"
	"time"
)

const (
	extension = "consul-lambda-extension"
	sums      = "SHA256SUMS"
)

// epoch is the oldest time that a zip can hold (two-second steps from 1980): a layer has no date.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: release DIR, got %d arguments", len(args))
	}
	dir := args[0]
	binaries, err := filepath.Glob(filepath.Join(dir, "*", extension))
	if err != nil {
		return fmt.Errorf("looking for binaries: %w", err)
	}
	if len(binaries) == 0 {
		return fmt.Errorf("no PLATFORM/%s in %s", extension, dir)
	}
	for _, binary := range binaries {
		platform := filepath.Base(filepath.Dir(binary))
		if err := writeLayer(filepath.Join(dir, extension+"_"+platform+".zip"), binary); err != nil {
			return fmt.Errorf("packing the layer of %s: %w", platform, err)
		}
	}
	return writeSums(dir)
}

// writeLayer writes a zip whose only entry is the binary, executable, without a date, an owner or a folder entry.
func writeLayer(path, binary string) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: "extensions/" + extension, Method: zip.Deflate, Modified: epoch}
	header.SetMode(0o755)
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	if _, err := entry.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, archive.Bytes(), 0o644) //nolint:gosec // why: a published file is readable
}

// writeSums writes the digest of every file below dir but itself, in the format of sha256sum, sorted by name.
func writeSums(dir string) error {
	var list bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == sums {
			return err
		}
		digest, err := digestOf(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(&list, "%x  %s\n", digest, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("summing up %s: %w", dir, err)
	}
	return os.WriteFile(filepath.Join(dir, sums), list.Bytes(), 0o644) //nolint:gosec // why: a published file is readable
}

func digestOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only: nothing is lost
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}
