// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// file is one file of the repository: its name from the root, with slashes, and all of it.
type file struct {
	name    string
	content []byte
}

// rule is one sentence about a file. check returns a complaint for each line that breaks it.
type rule struct {
	name   string
	reason string
	check  func(file) []string
}

// The patterns are put together from parts, so that this file does not match them.
var rules = []rule{
	{
		"a Go file starts with the license line",
		"a file that is copied alone still says what its license is",
		func(f file) []string {
			if path.Ext(f.name) == ".go" && !bytes.HasPrefix(f.content, []byte("// SPDX-License-Identifier: MPL-2.0\n\n")) {
				return []string{"does not start with the SPDX line and an empty one"}
			}
			return nil
		},
	},
	{
		"nothing is left to do",
		"a mark in the code is a promise that nobody tracks: do it, file it, or leave it out",
		none(`\b(?:TO`+`DO|FIX`+`ME|XX`+`X)\b`, "LICENSE", "go.sum"),
	},
	{
		"no path of a machine",
		"it works on that machine only, and says whose it was",
		none(`(?:^|[^\w.\-/}])/(?:wo`+`rk|ro`+`ot|ho`+`me/\w+|Us`+`ers/\w+)/|/tm`+`p/(?:tmp\.|bash_)`, "go.sum"),
	},
	{
		"no host of a package registry",
		"where packages come from is set by each user's own tools",
		none(`(?:pro`+`xy|su`+`m|ind`+`ex)\.golang\.org|registry\.npm`+`js\.org|de`+`b\.debian\.org|pyp`+`i\.org`, "go.sum"),
	},
	{
		"no private key",
		"a published key is no key: tests make theirs",
		none(`-----BE` + `GIN [A-Z0-9 ]*PRIV` + `ATE KEY`),
	},
	{
		"no certificate",
		"it expires, and the tests that use it with it: certtest makes one for each test",
		none(`-----BE` + `GIN CERTIFICATE-----(?:\s|\\n)*[A-Za-z0-9+/]{40}`),
	},
	{
		"an action is pinned by its commit",
		"a tag can be moved to other code; the comment says which version the commit is",
		func(f file) []string {
			if !isWorkflow(f.name) {
				return nil
			}
			var complaints []string
			for i, line := range strings.Split(string(f.content), "\n") {
				if action.MatchString(line) && !pinned.MatchString(line) {
					complaints = append(complaints, fmt.Sprintf("line %d has %q", i+1, strings.TrimSpace(line)))
				}
			}
			return complaints
		},
	},
	{
		"no file of keys or certificates",
		"one that is not text hides from the rules above",
		func(f file) []string {
			switch strings.ToLower(path.Ext(f.name)) {
			case ".pem", ".key", ".crt", ".cer", ".der", ".p12", ".pfx", ".jks":
				return []string{"is a kind of file that holds key material"}
			}
			return nil
		},
	},
}

var (
	action = regexp.MustCompile(`^\s*(?:- )?uses:`)
	pinned = regexp.MustCompile(`uses: [\w./-]+@[0-9a-f]{40} # v\d+(?:\.\d+)*$`)
)

func isWorkflow(name string) bool { return path.Dir(name) == ".github/workflows" }

// none says that no part of a file matches the pattern, but in files of the excepted base names.
func none(pattern string, except ...string) func(file) []string {
	re := regexp.MustCompile(`(?m)` + pattern)
	return func(f file) []string {
		for _, name := range except {
			if path.Base(f.name) == name {
				return nil
			}
		}
		var complaints []string
		for _, at := range re.FindAllIndex(f.content, -1) {
			line := 1 + bytes.Count(f.content[:at[0]], []byte("\n"))
			complaints = append(complaints, fmt.Sprintf("line %d has %q", line, bytes.TrimSpace(f.content[at[0]:at[1]])))
		}
		return complaints
	}
}
