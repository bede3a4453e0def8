// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"time"
)

// epoch is the oldest time that a zip can hold (two-second steps from 1980): what is published has no date.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// entry is a file in a zip.
type entry struct {
	name    string // with slashes
	mode    fs.FileMode
	content []byte
}

// zipOf returns a zip of the entries, in their order, without a date, an owner or an entry for a folder.
func zipOf(entries []entry) ([]byte, error) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: epoch}
		header.SetMode(e.mode)
		file, err := w.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write(e.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return archive.Bytes(), err
}
