// SPDX-License-Identifier: MPL-2.0

package registrator

// record is the desired state of one service: what a function's tags ask for, once for the function and once for each alias. It is
// comparable.
type record struct {
	Key
	function     ARN
	alias        string // "" for the function itself
	passthrough  bool   // the payload goes to the function as it came
	asynchronous bool   // the caller does not wait for the function
	// document is the path of the credential document, "" for none: an alias has none, as only the plain function's name is known
	// to the extension, and neither has a service of another datacenter, whose leaf cannot be issued here.
	document string
}

// arn returns what Consul is to invoke.
func (r record) arn() string { return r.function.qualified(r.alias) }

// mode is spelled as Consul compares it: "ASYNCHRONOUS" would be taken for synchronous (builtin/aws-lambda/aws_lambda.go).
func (r record) mode() string {
	if r.asynchronous {
		return "asynchronous"
	}
	return "synchronous"
}
