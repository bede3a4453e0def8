// SPDX-License-Identifier: MPL-2.0

package registrator

// Record is the desired state of one service: what a function's tags ask for, once for the function and once for each alias. It is
// comparable.
type Record struct {
	Key
	Function     ARN
	Alias        string // "" for the function itself
	Passthrough  bool   // the payload goes to the function as it came
	Asynchronous bool   // the caller does not wait for the function
	// Document is the path of the credential document, "" for none: an alias has none, as only the plain function's name is known
	// to the extension, and neither has a service of another datacenter, whose leaf cannot be issued here.
	Document string
}

// ARN returns what Consul is to invoke.
func (r Record) ARN() string { return r.Function.Qualified(r.Alias) }

// mode is spelled as Consul compares it: "ASYNCHRONOUS" would be taken for synchronous (builtin/aws-lambda/aws_lambda.go).
func (r Record) mode() string {
	if r.Asynchronous {
		return "asynchronous"
	}
	return "synchronous"
}
