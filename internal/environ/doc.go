// SPDX-License-Identifier: MPL-2.0

// Package environ reads a program's configuration from environment variables and reports all that is wrong with it at once:
//
//	r := environ.New(os.Environ())
//	cfg.Refresh = environ.Duration("CONSUL_REFRESH_FREQUENCY", 5*time.Minute, environ.Span{Min: time.Second}).From(r)
//	cfg.Prefix = r.Required("CONSUL_EXTENSION_DATA_PREFIX", "a path prefix in Parameter Store, such as /consul/lambda")
//	r.WarnUnread("CONSUL_EXTENSION_")
//	return cfg, r.Err()
//
// Each error is one line that names the variable, the value and what is accepted. Space around a value, and around the entries of
// a list, is ignored; an empty value means unset; words are taken in any case. A list may end in a comma.
//
// A library would do, but for two things: those looked at name a struct's fields in their errors, not the user's variables, and
// reflect over them in every cold start.
//
// Not here: files, flags, and the process's own environment, which the caller passes in.
package environ
