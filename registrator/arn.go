// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"regexp"
	"strings"
)

// ARN names a Lambda function without a qualifier. It is comparable; ParseARN builds one, and the zero value names nothing.
type ARN struct {
	partition, region, account, name string
}

// Owner is the scope of one registrator: an account and region of an AWS partition. It is comparable; the zero value is nobody.
type Owner struct {
	Partition string // of AWS: "aws", "aws-cn", "aws-us-gov"
	Region    string // such as "us-east-1"
	Account   string // 12 digits
}

// The parts of a function's ARN (Lambda API reference, ListTags). The name of a region is not checked further: new partitions
// (aws-iso-e, aws-eusc) came with new shapes of it. "$LATEST" is a qualifier, a version is digits, all else is an alias.
var (
	partitionPattern = regexp.MustCompile(`^aws[a-z-]*$`)
	regionPattern    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	accountPattern   = regexp.MustCompile(`^[0-9]{12}$`)
	functionPattern  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	aliasPattern     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	versionPattern   = regexp.MustCompile(`^[0-9]+$`)
)

const arnForm = "arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME"

// ParseARN reads the ARN of a function, in any partition of AWS. One with a qualifier (an alias or a version) is refused: that
// names something else. The error wraps ErrARN.
func ParseARN(s string) (ARN, error) {
	a, qualifier, err := ParseQualifiedARN(s)
	if err == nil && qualifier != "" {
		return ARN{}, fmt.Errorf("%w %q: has the qualifier %q: want %s", ErrARN, s, qualifier, arnForm)
	}
	return a, err
}

// ParseQualifiedARN reads the ARN of a function and what follows its name: an alias, a version, "$LATEST", or "" for nothing. The
// error wraps ErrARN.
func ParseQualifiedARN(s string) (function ARN, qualifier string, err error) {
	parts := strings.Split(s, ":")
	if len(parts) == 8 {
		qualifier, parts = parts[7], parts[:7]
		if qualifier != "$LATEST" && !aliasPattern.MatchString(qualifier) {
			return ARN{}, "", fmt.Errorf("%w %q: qualifier %q: want an alias, a version or $LATEST", ErrARN, s, qualifier)
		}
	}
	if len(parts) != 7 || parts[0] != "arn" || parts[2] != "lambda" || parts[5] != "function" {
		return ARN{}, "", fmt.Errorf("%w %q: want %s", ErrARN, s, arnForm)
	}
	a, err := Owner{Partition: parts[1], Region: parts[3], Account: parts[4]}.Function(parts[6])
	if err != nil {
		return ARN{}, "", fmt.Errorf("%w %q: %w", ErrARN, s, err)
	}
	return a, qualifier, nil
}

// Function returns the ARN of the owner's function of that name, or an error that says which part of the two no ARN can have.
func (o Owner) Function(name string) (ARN, error) {
	if err := o.check(); err != nil {
		return ARN{}, err
	}
	if !functionPattern.MatchString(name) {
		return ARN{}, fmt.Errorf(`function %q: want 1 to 64 letters, digits, "-" or "_"`, name)
	}
	return ARN{partition: o.Partition, region: o.Region, account: o.Account, name: name}, nil
}

func (o Owner) check() error {
	switch {
	case !partitionPattern.MatchString(o.Partition):
		return fmt.Errorf(`partition %q: want one of AWS, such as "aws"`, o.Partition)
	case !regionPattern.MatchString(o.Region):
		return fmt.Errorf(`region %q: want one of AWS, such as "us-east-1"`, o.Region)
	case !accountPattern.MatchString(o.Account):
		return fmt.Errorf("account %q: want 12 digits", o.Account)
	}
	return nil
}

// String returns "PARTITION:REGION:ACCOUNT", and "" for the zero value.
func (o Owner) String() string {
	if o == (Owner{}) {
		return ""
	}
	return o.Partition + ":" + o.Region + ":" + o.Account
}

// IsZero says whether a names nothing.
func (a ARN) IsZero() bool { return a == ARN{} }

// Name returns the function's name, "" for the zero value.
func (a ARN) Name() string { return a.name }

// Owner returns whose function it is.
func (a ARN) Owner() Owner {
	return Owner{Partition: a.partition, Region: a.region, Account: a.account}
}

// String returns the ARN, which ParseARN reads back; "" for the zero value.
func (a ARN) String() string {
	if a.IsZero() {
		return ""
	}
	return "arn:" + a.partition + ":lambda:" + a.region + ":" + a.account + ":function:" + a.name
}

// qualified returns the ARN of an alias of the function; that of the function itself for "".
func (a ARN) qualified(alias string) string {
	if alias == "" || a.IsZero() {
		return a.String()
	}
	return a.String() + ":" + alias
}
