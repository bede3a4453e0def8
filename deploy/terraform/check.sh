#!/usr/bin/env bash
# Checks the modules and examples: check.sh [STEP...], by default all of them.
#
#   format    terraform fmt
#   validate  against the AWS provider's schema, each module and example
#   test      terraform test, with AWS mocked
#   upgrade   plans over a state of the predecessor's module
#   lint      tflint
#   docs      the tables in the READMEs are those of the variables
#   rules     the modules agree with the code on environment variables and AWS calls, and docs/security.md with their policies
#
# TERRAFORM, TFLINT and TFCHECK are the programs (terraform of the PATH; bin/tflint and bin/tfcheck, as make builds them).
# TF_PLUGIN_DIR has the folder registry.terraform.io with the provider: where it is not set, such a folder is looked for, and where
# there is none, terraform asks the registry. That fails where it cannot be reached: no check is ever left out.
#
# Works on a copy, so that nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=${REPO:-$(cd "$here/../.." && pwd)}
terraform=${TERRAFORM:-terraform}
tflint=${TFLINT:-$repo/bin/tflint}
tfcheck=${TFCHECK:-$repo/bin/tfcheck}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here/." "$work"
cd "$work"
# UNITS are the modules and examples to look at, for those who changed one.
read -ra units <<<"${UNITS:-$(echo modules/* examples/*)}"

export CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_CLI_ARGS=-no-color
unset TF_WORKSPACE TF_DATA_DIR
[ -e "${TF_CLI_CONFIG_FILE:-/}" ] || unset TF_CLI_CONFIG_FILE # a leftover; it would only be warned of, in every line

# plugins prints where the provider is, or nothing.
plugins() {
	if [ -n "${TF_PLUGIN_DIR:-}" ]; then
		echo "$TF_PLUGIN_DIR"
		return
	fi
	local found
	found=$(find "${HOME:-/}/.terraform.d" /opt /usr/local /usr/share /usr/lib -maxdepth 5 -type d -name registry.terraform.io 2>/dev/null | head -n1) || true
	[ -z "$found" ] || dirname "$found"
}

# initialised makes folders ready, once.
initialised() {
	local dir from=() unit
	dir=$(plugins)
	if [ -n "$dir" ]; then
		from=(-plugin-dir="$dir")
	else
		echo 'no folder registry.terraform.io: asking the registry for the AWS provider'
	fi
	for unit; do
		[ ! -e "$unit/.terraform" ] || continue
		"$terraform" -chdir="$unit" init -backend=false -input=false "${from[@]}" >"$work/init.log" || { cat "$work/init.log" >&2; return 1; }
	done
}

format() { "$terraform" fmt -check -diff -recursive; }

validate() {
	initialised "${units[@]}"
	for unit in "${units[@]}"; do
		"$terraform" -chdir="$unit" validate || { echo "$unit is not valid" >&2; return 1; }
	done
}

test() {
	initialised "${units[@]}"
	for unit in "${units[@]}"; do
		echo "$unit"
		"$terraform" -chdir="$unit" test | sed -e '/ pass$/d' -e '/in progress$/d' -e '/tearing down$/d' -e '/^$/d'
	done
}

upgrade() {
	initialised testdata/upgrade
	"$tfcheck" upgrade -terraform "$terraform" testdata/upgrade
}

lint() {
	for unit in "${units[@]}"; do
		"$tflint" --chdir="$unit" --config="$work/.tflint.hcl" --no-color || { echo "tflint complains of $unit" >&2; return 1; }
	done
}

docs() { "$tfcheck" docs "${units[@]}"; }

rules() { "$tfcheck" rules -repo "$repo" .; }

[ $# -gt 0 ] || set -- format validate test upgrade lint docs rules
for step in "$@"; do
	case $step in
	format | validate | test | upgrade | lint | docs | rules) ;;
	*) echo "check.sh: there is no step $step" >&2; exit 2 ;;
	esac
	echo "--- terraform: $step"
	"$step"
done
