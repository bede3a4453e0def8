// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package main

import "errors"

// usage is what a process holds.
type usage struct {
	memory      int64
	descriptors int
	threads     int
	cpu         int64
}

func usageOf(int) (usage, error) { return usage{}, errors.ErrUnsupported }

func limitDescriptors(int, uint64) (uint64, error) { return 0, errors.ErrUnsupported }
