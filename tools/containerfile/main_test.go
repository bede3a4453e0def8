// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheRegistratorsFileIsGoodAndWhatIsWrongIsSeen(t *testing.T) {
	content, err := os.ReadFile("../../deploy/registrator.Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	context := t.TempDir()
	for _, name := range []string{
		"consul-lambda-registrator", "consul-lambda-registrator-licenses/LICENSE", "consul-lambda-registrator-licenses/THIRD-PARTY-LICENSES",
	} {
		for _, arch := range []string{"amd64", "arm64"} {
			path := filepath.Join(context, "linux_"+arch, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct{ old, replacement, says string }{
		"as it is":               {"", "", ""},
		"an unknown instruction": {"USER", "USERS", "USERS"},
		"an unknown flag":        {"--chmod=0755", "--mode=0755", "mode"},
		"root":                   {"65532:65532", "0:0", "root"},
		"a missing file":         {"-registrator /boot", "-registrar /boot", "no such file"},
		"a shell":                {`["/bootstrap"]`, "/bootstrap", "shell"},
		"a command":              {"USER 65532", "RUN true\nUSER 65532", "shell"},
		"two stages":             {"# Lambda runs", "FROM scratch\n# Lambda runs", "stages"},
		"no program":             {"ENTRYPOINT", "LABEL x=y\n# ", "no ENTRYPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "Containerfile")
			if err := os.WriteFile(path, []byte(strings.Replace(string(content), c.old, c.replacement, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run([]string{path, context})
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want something about %q", err, c.says)
			}
		})
	}
}
