// SPDX-License-Identifier: MPL-2.0

package version

import (
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionOfABinaryThatTheLinkerWasNotTold(t *testing.T) {
	for _, tt := range []struct {
		name string
		info *debug.BuildInfo
		ok   bool
		want string
	}{
		{"installed as a module", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, true, "v1.2.3"},
		{"built in its work tree", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, true, "dev"},
		{"built without module information", &debug.BuildInfo{}, true, "dev"},
		{"stripped of build information", nil, false, "dev"},
	} {
		if got := fromBuild(tt.info, tt.ok); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestALinkedVersionWins(t *testing.T) {
	defer func(was string) { linked = was }(linked)
	linked = "v1.2.3-4-gabcdef0"
	if got := String(); got != linked {
		t.Errorf("%q, want %q", got, linked)
	}
}

// The Makefile names the variable in a string that no compiler checks, and the linker ignores one that does not exist.
func TestTheMakefileLinksTheVersion(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	type here struct{}
	_ = linked // renamed together with the next line
	flag := "-X " + reflect.TypeFor[here]().PkgPath() + ".linked="
	if !strings.Contains(string(makefile), flag) {
		t.Errorf("the Makefile does not link with %s", flag)
	}
}
