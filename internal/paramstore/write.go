// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// maxValue is the largest value that Parameter Store takes, in bytes: the limit
// of an Advanced parameter.
const maxValue = 8192

// mark is the description of every parameter that a Writer stores. It is a
// contract between versions of the registrator: a parameter without it was
// written by somebody else, or by the predecessor.
const mark = "Credentials of a Lambda function in a Consul service mesh, kept by consul-lambda-registrator"

// Tier is a parameter's storage tier. The zero value is IntelligentTiering.
type Tier string

const (
	// IntelligentTiering lets AWS choose: Standard while the value fits,
	// Advanced from then on.
	IntelligentTiering Tier = "Intelligent-Tiering"
	// Standard holds 4,096 bytes and is free. A parameter that was once
	// Advanced refuses it.
	Standard Tier = "Standard"
	// Advanced holds 8,192 bytes and is charged for.
	Advanced Tier = "Advanced"
)

// ParseTier reads a tier's name, in any case. Empty means IntelligentTiering.
func ParseTier(s string) (Tier, error) {
	for _, t := range []Tier{IntelligentTiering, Standard, Advanced} {
		if s == "" || strings.EqualFold(s, string(t)) {
			return t, nil
		}
	}
	return "", fmt.Errorf("tier %q is not one of %s, %s, %s", s, IntelligentTiering, Standard, Advanced)
}

// WriterConfig says how parameters are stored. Its zero value works.
type WriterConfig struct {
	// Tier is the tier asked for. Empty: IntelligentTiering.
	Tier Tier
	// KeyID is the KMS key to encrypt with: an ID, an ARN or an alias. Empty:
	// the account's alias/aws/ssm.
	KeyID string
}

// A Writer writes and deletes parameters. It is safe for concurrent use.
type Writer struct {
	store *Store
	cfg   WriterConfig
}

// Writer returns a Writer that stores parameters as cfg says.
func (s *Store) Writer(cfg WriterConfig) *Writer { return &Writer{store: s, cfg: cfg} }

// Put stores value as a SecureString, over what is there, and returns its new
// version (1 for a new parameter). It marks the parameter, so that Describe can
// tell it from those of others. A value above 8,192 bytes is ErrTooLarge,
// and one that the tier does not admit is ErrTier.
func (w *Writer) Put(ctx context.Context, name string, value []byte) (version int64, err error) {
	c, ctx, cancel := w.store.begin(ctx, "PutParameter", name)
	defer cancel()
	if len(value) > maxValue {
		return 0, c.failure(kindTooLarge, fmt.Errorf("the value has %d bytes, Parameter Store takes %d", len(value), maxValue))
	}
	in := &ssm.PutParameterInput{
		Name:        &name,
		Value:       aws.String(string(value)),
		Description: aws.String(mark),
		Type:        types.ParameterTypeSecureString,
		Tier:        types.ParameterTier(cmp.Or(w.cfg.Tier, IntelligentTiering)),
		Overwrite:   aws.Bool(true),
	}
	if w.cfg.KeyID != "" {
		in.KeyId = &w.cfg.KeyID
	}
	out, err := w.store.client.PutParameter(ctx, in)
	if err != nil {
		c.secret = *in.Value
		return 0, c.failed(err)
	}
	return out.Version, nil
}

// Delete removes a parameter. One that does not exist is no error.
func (w *Writer) Delete(ctx context.Context, name string) error {
	c, ctx, cancel := w.store.begin(ctx, "DeleteParameter", name)
	defer cancel()
	_, err := w.store.client.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: &name})
	if err == nil {
		return nil
	}
	if err := c.failed(err); !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
