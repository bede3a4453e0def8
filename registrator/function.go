// SPDX-License-Identifier: MPL-2.0

package registrator

// Function is a Lambda function as AWS shows it: its name is that of the ARN.
type Function struct {
	ARN  ARN
	Tags map[string]string // all of its tags; nil: none
}

// Listing is what is known of an account's functions after a look at them.
type Listing struct {
	// Functions carry the tag that enables, whatever its value, unless they were found without the tagging API:
	// then they are any.
	Functions []Function
	// Next is where the following run goes on. Empty: this look reached the end.
	Next string
}
