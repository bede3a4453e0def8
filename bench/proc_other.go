// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package bench

import (
	"os"
	"time"
)

const supported = false

func cpuTime(int) (time.Duration, error) { return 0, errUnsupported }
func pss(int) (int64, error)             { return 0, errUnsupported }
func tree(root int) ([]int, error)       { return []int{root}, nil }
func raiseFiles(uint64) uint64           { return 1024 }
func terminate(p *os.Process)            { _ = p.Kill() }
func machine() Machine                   { return newMachine() }
func apart(int) (func(), error)          { return func() {}, nil }
func onOneCore() (func(), error)         { return func() {}, nil }
