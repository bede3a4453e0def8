// SPDX-License-Identifier: MPL-2.0

package registrator

import "errors"

var (
	// ErrNoFunction means that AWS says there is no such function.
	ErrNoFunction = errors.New("registrator: no such function")

	// ErrDenied means that Consul's token lacks a permission. The error's text has the rule that would give it.
	ErrDenied = errors.New("registrator: permission denied")

	// ErrConflict means that somebody else changed what was to be written. Nothing was written.
	ErrConflict = errors.New("registrator: changed by somebody else meanwhile")

	// ErrInUse means that Consul refuses a change of service-defaults for what others have built on them, such as a service-router.
	// Nothing was written.
	ErrInUse = errors.New("registrator: others build on it")

	// ErrARN is wrapped by every error of ParseARN and ParseQualifiedARN.
	ErrARN = errors.New("registrator: invalid function ARN")

	// ErrEvent is wrapped by every error of ParseEvent.
	ErrEvent = errors.New("registrator: unknown event")

	// ErrConfig is wrapped by every error of New.
	ErrConfig = errors.New("registrator: invalid configuration")

	// ErrOwner means that AWS showed functions of another account or region than the configured one. Nothing was written (G5).
	ErrOwner = errors.New("registrator: not the owner's account and region")

	// ErrObserve means that too little of the state could be read to plan by. Nothing was written (G2).
	ErrObserve = errors.New("registrator: the state could not be read in whole")

	// ErrDeletes means that a run would have deleted more than its cap. It deleted nothing, and did the rest (G7).
	ErrDeletes = errors.New("registrator: more to delete than allowed in one run")

	// ErrFailed means that something of a run failed after the state was read. All else was done (G10).
	ErrFailed = errors.New("registrator: not everything could be done")
)
