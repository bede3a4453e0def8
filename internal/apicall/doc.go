// SPDX-License-Identifier: MPL-2.0

// Package apicall is what the registrator's adapters do alike around a call of an API: its rate, the pauses between its tries, and how
// much of a foreign message is quoted.
//
//	limiter := apicall.PerSecond(16.6)
//	pause := apicall.Backoff{Next: time.Second, Most: 5 * time.Second}
//	for err = call(); again(err) && pause.Wait(ctx); err = call() {
//	}
//	return errors.New(apicall.OneLine(err.Error()))
//
// Which errors are worth another try, how many there are, and what the rate is, is each adapter's own: it follows from what its API
// promises. The extension does not link this package; package paramstore, which it does, has what it needs of this itself.
package apicall
