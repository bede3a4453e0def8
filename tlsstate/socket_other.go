// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package tlsstate

// Lambda is Linux. Elsewhere, in a laptop's lab, an end that is hidden behind other bytes is seen when those are read.
func socketClosed(int) bool { return false }
