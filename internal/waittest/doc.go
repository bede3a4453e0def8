// SPDX-License-Identifier: MPL-2.0

// Package waittest is how a test waits for what other goroutines and other processes do: for a condition, not for a time.
//
//	waittest.Until(t, "the spare to be ready", func() bool { return state.HasSpare(0) })
//
//	var log waittest.Log
//	server := proxy.New(proxy.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
//	log.Await(t, "drained")
//
// Every wait ends after [Patience] at the latest, which is no measure of anything: a machine that is five times slower, or that
// pauses for a while, changes how long a test takes and not what it says. How soon something happens is for the test to measure.
//
// The package knows nothing of ours, so that the tests of any package may import it. Nothing of it has to be closed.
package waittest
