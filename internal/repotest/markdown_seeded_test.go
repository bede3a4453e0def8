// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestAPageThatPointsAtNothingIsFound(t *testing.T) {
	all := []file{
		{"Makefile", []byte("GOBUILD = go\nVERSION := 1\n.PHONY: dist\ndist: clean ## build\nclean:\n")},
		{"README.md", []byte("# Top\n\n## What it is: `a`, [b](docs/a.md)\n## Again\n## Again\n```\n## not one\n```\n")},
		{"docs/a.md", []byte("# A\n")},
		{"proxy/conn.go", nil},
		{"proxy/conn_test.go", []byte("func TestItWorks(t *testing.T) {\nfunc FuzzIt(f *testing.F) {\n")},
		{"deploy/modules/x/README.md", []byte("# X\n")},
	}
	repo := newTree(all)
	for _, tt := range []struct {
		name, line, says string // says is "" where nothing is wrong
	}{
		{"a link beside it", "[a](a.md) and [r](../README.md)", ""},
		{"a link to a folder", "[p](../proxy)", ""},
		{"a link elsewhere", "[e](https://example.com/none.md#x) <mailto:a@b>", ""},
		{"a link to nothing", "see [a](b.md)", "there is no such file"},
		{"a second link in a line", "[a](a.md), [b](b.md)", "there is no such file"},
		{"a definition of a link", "[a]: none.md", "there is no such file"},
		{"a link from the root", "[r](/README.md)", "starts from the folder"},
		{"a link out of the repository", "[r](../../README.md)", "there is no such file"},
		{"an image", "![i](i.svg)", "there is no such file"},
		{"a heading", "[w](../README.md#what-it-is-a-b)", ""},
		{"a second heading of the same text", "[w](../README.md#again-1)", ""},
		{"a third", "[w](../README.md#again-2)", "no heading"},
		{"a heading in a code block", "[w](../README.md#not-one)", "no heading"},
		{"a heading of this page", "[w](#here)", ""},
		{"none of this page", "[w](#there)", "no heading"},
		{"a heading of a source", "[w](../proxy/conn.go#L10)", "only a page"},
		{"a link in code", "`[a](b.md)`", ""},
		{"a link in a block", "    [a](b.md)", ""},

		{"a path", "`proxy/conn.go`, `./proxy/...` and `proxy/`", ""},
		{"a path that is not there", "`proxy/none.go`", "there is no such file"},
		{"a path from this folder", "`docs/a.md`", ""},
		{"a path with a wildcard", "`deploy/modules/*`", ""},
		{"a path with a wildcard that matches nothing", "`deploy/examples/*`", "there is no such file"},
		{"a path of something else", "`golang.org/x/sys`, `/opt/extensions`, `spiffe://a/b`, `alias/aws/ssm`", ""},
		{"what make builds", "`bin/consul-lambda`, `dist/SHA256SUMS`", ""},
		{"a file", "`conn.go`", ""},
		{"a file that is not there", "`none.go`", "there is no such file"},
		{"a test", "`TestItWorks`, `FuzzIt`", ""},
		{"a test that is not there", "`TestItDoesNot`", "no such test"},
		{"a target", "`make dist`, `make dist ARCH=arm64`", ""},
		{"a target that is not there", "`make dists`", "no such target"},
		{"a variable of make is no target", "`make version`", "no such target"},
	} {
		page := file{"docs/page.md", []byte("# Here\n\n" + tt.line + "\n")}
		repo.anchors[page.name], repo.paths[page.name] = anchors(string(page.content)), true
		got := strings.Join(repo.dangling(page), "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
			t.Errorf("%s: %q: says %q, want %q", tt.name, tt.line, got, tt.says)
		} else if tt.says != "" && !strings.Contains(got, "line 3 ") {
			t.Errorf("%s: says %q, want the line", tt.name, got)
		}
	}
}

func TestAWorkflowThatMakesNothingIsFound(t *testing.T) {
	repo := newTree([]file{{"Makefile", []byte("ci: ## all\n")}})
	for line, found := range map[string]bool{
		"      - run: make ci":             false,
		"          make ci 2>&1 | tee log": false,
		"      - run: make nothing":        true,
		"          make nothing | tee log": true,
		"      - name: make nothing":       false,
	} {
		if got := repo.unmakeable(file{".github/workflows/a.yml", []byte("on: push\n" + line + "\n")}); (len(got) > 0) != found {
			t.Errorf("%q: says %q, want something: %v", line, got, found)
		}
	}
}

// The expectations are what GitHub makes of these headings.
func TestAnchorsAreGitHubs(t *testing.T) {
	page := "# R1 (the *peer's* ID)\n## See `make demo`\n## A & B\n## snake_case-x ##\n# é, ß\n#no heading\n"
	want := []string{"a--b", "r1-the-peers-id", "see-make-demo", "snake_case-x", "é-ß"}
	if got := slices.Sorted(maps.Keys(anchors(page))); !slices.Equal(got, want) {
		t.Errorf("the anchors are %q, want %q", got, want)
	}
}
