// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package lambdasim

import (
	"errors"
	"syscall"
)

const supported = false

const signalStop, signalContinue = syscall.Signal(0), syscall.Signal(0)

func processAttributes() *syscall.SysProcAttr { return nil }

func signalGroup(int, syscall.Signal) error { return errors.ErrUnsupported }

func awaitExit(int) {}

func stopped(int) (bool, error) { return false, errors.ErrUnsupported }
