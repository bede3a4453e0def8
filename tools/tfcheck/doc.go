// SPDX-License-Identifier: MPL-2.0

// Command tfcheck holds the Terraform below deploy/terraform to what terraform and tflint cannot know: that the tables in the READMEs
// are those of the variables, that the modules and the programs that they deploy agree on every environment variable and every AWS
// call with what it is on, that docs/security.md has the modules' policies, and that an upgrade from the predecessor's module keeps what
// is there.
//
//	tfcheck docs [-w] MODULE...           compare the tables in each README.md; -w: write them
//	tfcheck rules -repo DIR TERRAFORM     hold the modules below TERRAFORM against the Go code of the repository
//	tfcheck upgrade DIR                   plan over a state of the predecessor, in a folder where terraform is initialised, and judge that
//
// It prints one complaint a line, and exits 1 if there was one. It reads files; -w is all that writes. For upgrade it answers for
// AWS on loopback.
//
// It is no parser of plans or policies in general: it knows how these modules are written (a local named environment, one policy of a
// role, which needs few of Terraform's functions), and says so where it does not find that. What the calls of a package are on is not
// read off the code: rules.go says it, for each package that calls.
package main
