// SPDX-License-Identifier: MPL-2.0

package lab

// ForgetLeaks is Leaks, after which nothing was found.
func (w *World) ForgetLeaks() error {
	defer func() { w.printed.leaks = nil }()
	return w.Leaks()
}
