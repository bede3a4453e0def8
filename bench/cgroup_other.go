// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package bench

import "time"

type cgroup struct{}

func newCgroup(string) (*cgroup, error) { return nil, errNoCgroup }

func (*cgroup) add(int) error                            { return errNoCgroup }
func (*cgroup) limit(time.Duration, time.Duration) error { return errNoCgroup }
func (*cgroup) remove() error                            { return nil }
