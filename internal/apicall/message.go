// SPDX-License-Identifier: MPL-2.0

package apicall

import "strings"

// maxMessage bounds what is quoted of a message, in bytes.
const maxMessage = 400

// OneLine keeps a message from elsewhere from breaking the log into lines, or filling it: white space becomes single spaces, and what
// is longer than 400 bytes is cut.
func OneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
