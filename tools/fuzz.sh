#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other: fuzz.sh FUZZTIME
#
# FUZZTIME is for each target: a duration (30s) or a number of inputs (2000x). The first failing input ends the run; the go command
# keeps it under testdata/fuzz of its package, from where it is a test for ever.
set -euo pipefail
each=${1:?usage: fuzz.sh FUZZTIME}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Only packages with a target are built; the names come from the test binaries themselves, so that build tags count.
packages=$(grep -rlE '^func Fuzz[^a-z]' --include='*_test.go' . | xargs -r -n1 dirname | sort -u)
if [ -z "$packages" ]; then
	echo "no package has a fuzz target" >&2
	exit 1
fi
# shellcheck disable=SC2086 # a list of folders, one word each
go test -list '^Fuzz' $packages >"$log" || { cat "$log" >&2; exit 1; }
targets=$(awk '/^Fuzz/ { name[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' "$log")

total=$(wc -l <<<"$targets") done=0
while read -r package target; do
	done=$((done + 1))
	printf -- '--- fuzz %d/%d %s %s for %s\n' "$done" "$total" "$package" "$target" "$each"
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" "$package" </dev/null 2>&1 | tee "$log"; then
		continue
	fi
	# The fuzzer of Go 1.26 may take the end of a duration for a failure: go.dev/issue/75804. A real one names its input.
	if grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic:|testdata/fuzz' "$log"; then
		echo "ended by its duration without a failing input: go.dev/issue/75804"
		continue
	fi
	exit 1
done <<<"$targets"
echo "none of $total fuzz targets found anything"
