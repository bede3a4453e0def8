// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const sums = "SHA256SUMS"

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
