// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"errors"
	"fmt"
)

// ErrEnded is returned by calls on a sandbox that was shut down or killed.
var ErrEnded = errors.New("lambdasim: the sandbox has ended")

// errTimedOut is the cause of a context that a limit of Lambda has ended, to
// tell it from the caller's own deadline.
var errTimedOut = errors.New("time limit reached")

// Types of a Fault, as Lambda shows them to the invoker.
const (
	// ExtensionCrash: an extension exited by itself, with whatever code.
	ExtensionCrash = "Extension.Crash"
	// ExtensionInitError: an extension reported to /extension/init/error.
	ExtensionInitError = "Extension.InitError"
	// ExtensionExitError: an extension reported to /extension/exit/error.
	ExtensionExitError = "Extension.ExitError"
	// ExtensionLaunchError: an extension could not be executed.
	ExtensionLaunchError = "Extension.LaunchError"
	// RuntimeExitError: the runtime exited by itself, with whatever code.
	RuntimeExitError = "Runtime.ExitError"
	// RuntimeInvalidEntrypoint: the bootstrap could not be executed.
	RuntimeInvalidEntrypoint = "Runtime.InvalidEntrypoint"
	// SandboxTimedout: Init or the invocation took longer than its limit.
	SandboxTimedout = "Sandbox.Timedout"
	// LabFreezeFailed is this package's own: AutoFreeze could not stop a
	// process.
	LabFreezeFailed = "Lab.FreezeFailed"
)

// SourceRuntime is the name of the runtime in faults, exits and log lines.
const SourceRuntime = "runtime"

// Fault says why Init or an invocation failed, or why an idle sandbox died.
type Fault struct {
	// Type is one of the constants above, or what the runtime reported to
	// /runtime/init/error.
	Type string
	// Source is the extension's name, SourceRuntime, or empty when it is the
	// sandbox as a whole (a limit).
	Source string
	// Message is for people: "exit status 1", "signal: killed", …
	Message string
	// Reported is what the source posted to an error endpoint; nil if nothing.
	Reported *ErrorReport
}

// ErrorReport is what an extension or a runtime posted about its own failure.
type ErrorReport struct {
	// Type is the Function-Error-Type header.
	Type string
	// Message is errorMessage of the body; empty if there was none.
	Message string
}

// join returns err itself unless cleaning up after it failed too.
func join(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, cleanup)
}

// Error gives the type, the source and the message.
func (f *Fault) Error() string {
	text := "lambdasim: " + f.Type
	if f.Source != "" {
		text += " (" + f.Source + ")"
	}
	if f.Message != "" {
		text += ": " + f.Message
	}
	if f.Reported != nil {
		text += fmt.Sprintf(", reported %s: %s", f.Reported.Type, f.Reported.Message)
	}
	return text
}

// InitError is returned when Init failed. By then every process of that attempt
// has been ended and reaped.
type InitError struct {
	Fault
	// Report has the timings as far as Init came.
	Report InitReport
	// Logs are the sandbox's lines up to the end of its processes.
	Logs []Line
	// Shutdown says how the processes were ended.
	Shutdown ShutdownReport
}

// Error says that Init failed, and why.
func (e *InitError) Error() string { return e.Fault.Error() + ", during Init" }

// Unwrap returns the *Fault.
func (e *InitError) Unwrap() error { return &e.Fault }
