// SPDX-License-Identifier: MPL-2.0

// Package version says which build this is: one answer for the first log line, the command line and the user agents of every binary.
//
// It is not a version scheme: nothing compares or parses what it returns.
package version

import "runtime/debug"

// linked is set by the Makefile, with -ldflags "-X …/internal/version.linked=v1.2.3". The linker ignores a name that does not exist: a test
// compares the two.
var linked string

// String returns what the linker was told; else the module version, of a binary made by `go install …@version`; else "dev".
func String() string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	return fromBuild(info, ok)
}

// fromBuild is String without a linked version. The go command writes "(devel)" for a main package built in its own work tree.
func fromBuild(info *debug.BuildInfo, ok bool) string {
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}
